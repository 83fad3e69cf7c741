"""Predictions come between the stages of an inspection: however long it is, it holds nobody else up."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

from fluoroscope_server.engine import Capture, Execution, device_is_host, read
from fluoroscope_server.serving import DeviceQueue, StageClock, load
from fluoroscope_server.settings import ModelSource

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
    from pathlib import Path

    import jax

    from fluoroscope_server.engine import Result, Results, ResultSpec
    from fluoroscope_server.serving import Answer, Servable

WAIT = 60
STAGES = 12
X = np.full((2, 2, 2), 0.5, np.float32)


def waves(variables: Any, inputs: Mapping[str, jax.Array]) -> jax.Array:
    x: jax.Array = inputs["image"] * variables["scale"]
    for index in range(STAGES):
        x = checkpoint_name(jnp.sin(x), f"waves/{index}")
    return x


@pytest.fixture
def one_device() -> Iterator[DeviceQueue]:
    """A device that does one thing at a time."""
    queue = DeviceQueue("one device", workers=1)
    yield queue
    queue.close()


@pytest.fixture
def wavy(
    *,
    tmp_path: Path,
    save: Callable[..., Path],
    one_device: DeviceQueue,
    model_config: dict[str, Any],
    family: Callable[[Any], str],
) -> Iterator[Servable]:
    """A network of many stages."""
    config = {**model_config, "family": family(lambda _: waves), "config": {}, "buckets": [2]}
    path = save(tmp_path / "run", {"scale": np.float32(1)}, config)
    loaded = load(ModelSource(name="wavy", path=path), one_device, capacity=8, on_compile=lambda _: None)
    yield loaded
    loaded.engine.close()


class Watched:
    """The stages of an answer, one by one, as the device runs them."""

    def __init__(self, answer: Answer) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()
        self.answered = threading.Event()
        self.ran = 0
        self.answer = replace(answer, run=self._run(answer.run))

    def _run(self, run: Iterator[Results]) -> Iterator[Results]:
        self.begun.set()
        assert self.go.wait(WAIT)
        for number in range(STAGES):
            if number == STAGES - 1:
                assert self.answered.wait(WAIT), "the last stage ran before the prediction was answered"
            self.ran += 1
            yield next(run)

    async def paths(self) -> list[str]:
        """Reads everything; returns the paths of what came."""
        results = [result async for batch in self.answer.results() for result in batch]
        return [spec.name for spec, _ in zip(self.answer.inspection.results, results, strict=True)]


async def ask(servable: Servable) -> Watched:
    captures = [Capture(sites=("waves/*",))]
    answer = await servable.inspect(
        {"image": X}, captures, (), max_bytes=1 << 20, clock=StageClock(), execution=Execution.STAGED
    )
    assert answer.program.stage_count == STAGES
    return Watched(answer)


async def predict(servable: Servable) -> None:
    answer = await servable.predict({"image": X}, (), StageClock())
    expected = X.astype(np.float64)
    for _ in range(STAGES):
        expected = np.sin(expected)
    np.testing.assert_allclose(answer["logits"], expected, rtol=1e-5)


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, 2 * WAIT))


def test_a_prediction_is_answered_before_the_last_stage(wavy: Servable) -> None:
    """It comes when the device is at the first stage, and the last one waits until it has been answered."""

    async def main() -> None:
        watched = await ask(wavy)
        reading = asyncio.ensure_future(watched.paths())
        assert await asyncio.to_thread(watched.begun.wait, WAIT)
        predicting = asyncio.ensure_future(predict(wavy))
        await asyncio.sleep(0)  # it is in the queue now
        watched.go.set()
        await predicting
        assert not reading.done()
        watched.answered.set()
        assert await reading == [f"waves/{index}" for index in range(STAGES)]

    run(main())


def test_an_inspection_that_nobody_reads_does_not_go_on(wavy: Servable) -> None:
    """While its reader takes nothing more, it runs no more than one stage ahead, and the device is free.

    Where the device is the host, the first result has left before the second stage begins.
    """

    async def main() -> None:
        watched = await ask(wavy)
        watched.go.set()
        watched.answered.set()
        batches = watched.answer.results().__aiter__()
        first = await anext(batches)
        assert len(first) == 1
        for _ in range(5):
            await predict(wavy)
        assert watched.ran <= (1 if device_is_host() else 2)
        rest = [result async for batch in batches for result in batch]
        assert len(rest) == STAGES - 1

    run(main())


@pytest.mark.parametrize("shares_memory", [False, True])
def test_a_stage_is_dispatched_before_the_result_before_it_is_copied_out(
    wavy: Servable, monkeypatch: pytest.MonkeyPatch, *, shares_memory: bool
) -> None:
    """Each copy here waits for the next stage, and would wait for ever if the stage waited for the copy.

    Only where the device is the host does the first result go first: both would take the same cores.
    """
    ran = [threading.Event() for _ in range(STAGES)]
    copied: list[int] = []

    def dispatched(run: Iterator[Results]) -> Iterator[Results]:
        for event, results in zip(ran, run, strict=True):
            event.set()
            yield results

    def copy(spec: ResultSpec, arrays: Sequence[jax.Array]) -> Result:
        number = len(copied)
        copied.append(number)
        if number == 0 and shares_memory:
            assert not ran[1].is_set()
        elif number < STAGES - 1:
            assert ran[number + 1].wait(WAIT), f"stage {number + 2} waits for result {number + 1}"
        return read(spec, arrays)

    async def main() -> None:
        watched = await ask(wavy)
        answer = replace(
            watched.answer, run=dispatched(wavy.engine.run(watched.answer.program, (X,), watched.answer.inspection))
        )
        async for _ in answer.results():
            pass

    monkeypatch.setattr("fluoroscope_server.serving.answer.device_is_host", lambda: shares_memory)
    monkeypatch.setattr("fluoroscope_server.serving.answer.read", copy)
    run(main())
    assert copied == list(range(STAGES))
