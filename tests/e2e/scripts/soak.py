"""Many clients at once, each with a connection of its own, that mix Predict and InspectActivations.

    soak.py TARGET CLIENTS SECONDS

Asks each question once and says "warm"; asks with all clients for two seconds and says "busy"; then, when a line
comes on standard input, for SECONDS more. Last it says what came of it.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np

import fluoroscope

if TYPE_CHECKING:
    from collections.abc import Sequence

Question = tuple[str, dict[str, np.ndarray], dict[str, Any] | None]
"""Model, inputs, and what to inspect; None means to predict."""

FULL, STATISTICS = fluoroscope.Full(), fluoroscope.Statistics()


def questions() -> list[Question]:
    asked: list[Question] = []
    generator = np.random.default_rng(11)
    for rows in (1, 2, 3, 8):
        x = generator.normal(size=(rows, 6)).astype(np.float32)
        for model in ("relu", "swish"):
            asked += [
                (model, {"x": x}, None),
                (model, {"x": x}, {"sites": "activations/*"}),
                (model, {"x": x}, {"sites": "Dense_1", "reduce": [FULL, STATISTICS], "outputs": ["logits"]}),
                (model, {"x": x}, {"sites": "Dense_0", "slices": fluoroscope.Slice(-1, rows, rows + 2)}),
            ]
        image = generator.normal(size=(min(rows, 4), 8, 8, 1)).astype(np.float32)
        asked += [
            ("convolutions", {"image": image}, None),
            ("convolutions", {"image": image}, {"sites": ["Conv_1", "head"]}),
        ]
    return asked


Answer = tuple[dict[str, np.ndarray], list[str]]
"""Arrays by name, and what else was said."""


async def ask(client: fluoroscope.AsyncClient, question: Question) -> Answer:
    """Returns the answer."""
    model, inputs, inspection = question
    if inspection is None:
        return await client.predict(model, inputs), []
    found = await client.inspect(model, inputs, **inspection)
    arrays = {each.site: each.array for each in found.values() if fluoroscope.Full() in each}
    said = [f"{each.site} {each.shape} {each.results.get(fluoroscope.Statistics())}" for each in found.values()]
    return {**arrays, **{f"output {name}": array for name, array in found.outputs.items()}}, said


def right(answer: Answer, expected: Answer) -> bool:
    """Whether an answer is the one that came when nobody else was there.

    Requests that are joined run at another batch size, where the compiler may sum in another order. Statistics are of
    one request, and so are always the very same.
    """
    (arrays, said), (known, known_said) = answer, expected
    return (
        said == known_said
        and arrays.keys() == known.keys()
        and all(
            array.dtype == known[name].dtype
            and array.shape == known[name].shape
            and np.allclose(array, known[name], rtol=1e-5, atol=1e-6)
            for name, array in arrays.items()
        )
    )


async def run(
    client: fluoroscope.AsyncClient, asked: Sequence[Question], answers: Sequence[Answer], *, seed: int, until: float
) -> tuple[int, int]:
    """Asks one question after the other; returns how many, and how many of the answers were wrong."""
    choose = random.Random(seed)
    count = wrong = 0
    while time.monotonic() < until:
        index = choose.randrange(len(asked))
        wrong += not right(await ask(client, asked[index]), answers[index])
        count += 1
    return count, wrong


async def everyone(
    clients: Sequence[fluoroscope.AsyncClient], asked: Sequence[Question], answers: Sequence[Answer], *, seconds: float
) -> dict[str, int]:
    until = time.monotonic() + seconds
    running = (run(client, asked, answers, seed=seed, until=until) for seed, client in enumerate(clients))
    done = await asyncio.gather(*running)  # an error of any call ends it all
    return {
        "calls": sum(count for count, _ in done),
        "wrong": sum(wrong for _, wrong in done),
        "idle": sum(count == 0 for count, _ in done),
    }


def say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def main(target: str, count: int, seconds: float) -> None:
    own = (("grpc.use_local_subchannel_pool", 1),)  # a connection for each, as if each were a process
    clients = [fluoroscope.AsyncClient(target, timeout=60, options=own) for _ in range(count)]
    asked = questions()
    answers = [await ask(clients[0], question) for question in asked]
    say("warm")
    await everyone(clients, asked, answers, seconds=2)
    say("busy")
    await asyncio.to_thread(sys.stdin.readline)
    say(await everyone(clients, asked, answers, seconds=seconds))
    for client in clients:
        await client.close()


asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
