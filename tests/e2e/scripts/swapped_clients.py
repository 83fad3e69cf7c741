"""Many clients at once, each with a connection of its own, that ask models whose versions change meanwhile.

    swapped_clients.py TARGET CLIENTS MODEL:LABEL...

Asks until a line comes on standard input, for the version that serves or the one that the label names; then says what
came of it. They are bare stubs: no call is tried a second time, so that whatever fails is seen.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import numpy as np

from fluoroscope.v1 import inference_pb2, inference_pb2_grpc, inspection_pb2, inspection_pb2_grpc
from fluoroscope.wire import decode_tensor, fill_tensor
from fluoroscope_server.rpc.open_inference.inference import open_inference_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

X = np.ones((2, 6), np.float32)
MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"

Answer: TypeAlias = tuple[int, set[float]]
"""The version that says that it has answered, and all the different numbers that it has answered with."""

Question: TypeAlias = Callable[[grpc.aio.Channel, str, str], Awaitable[Answer]]


def by(label: str) -> dict[str, Any]:
    """Returns what chooses a version: nothing but the one that serves, if there is no label."""
    return {"label": label} if label else {}


async def predict(channel: grpc.aio.Channel, model: str, label: str) -> Answer:
    request = inference_pb2.PredictRequest(model=model, **by(label))
    fill_tensor(request.inputs["x"], X)
    answer = await inference_pb2_grpc.InferenceServiceStub(channel).Predict(request, timeout=60)
    return answer.version, set(decode_tensor(answer.outputs["logits"]).ravel().tolist())


async def inspect(channel: grpc.aio.Channel, model: str, label: str) -> Answer:
    """Asks for statistics of what the network answers with, and for the answer itself."""
    request = inspection_pb2.InspectActivationsRequest(model=model, outputs=["logits"], **by(label))
    fill_tensor(request.inputs["x"], X)
    request.captures.add(sites=["Dense_1"]).reductions.add().statistics.SetInParent()
    frames = [each async for each in inspection_pb2_grpc.InspectionServiceStub(channel).InspectActivations(request)]
    header, summary, *chunks, trailer = frames
    assert trailer.WhichOneof("frame") == "trailer"
    found = summary.summary.statistics
    answer = np.frombuffer(b"".join(each.chunk.data for each in chunks), np.float32)
    return header.header.version, {found.min, found.max, *answer.tolist()}


async def infer(channel: grpc.aio.Channel, model: str, _label: str) -> Answer:
    """Asks by the Open Inference Protocol, which has no labels."""
    request = open_inference_pb2.ModelInferRequest(model_name=model, raw_input_contents=[X.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=X.shape)
    ask = channel.unary_unary(
        MODEL_INFER,
        request_serializer=open_inference_pb2.ModelInferRequest.SerializeToString,
        response_deserializer=open_inference_pb2.ModelInferResponse.FromString,
    )
    answer = await ask(request, timeout=60)
    return int(answer.model_version), set(np.frombuffer(answer.raw_output_contents[0], np.float32).tolist())


QUESTIONS: tuple[Question, ...] = (predict, inspect, infer)


class Findings:
    """What came of all the calls."""

    def __init__(self) -> None:
        """Begins with none."""
        self.served: set[int] = set()
        self.answers: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.failed: list[str] = []

    async def ask(self, question: Question, channel: grpc.aio.Channel, model: str, label: str) -> None:
        what = f"{question.__name__} of {model} {label!r}"
        try:
            version, numbers = await question(channel, model, label)
        except grpc.aio.AioRpcError as error:
            self.failed.append(f"{what}: {error.code().name}: {error.details()}")
            return
        # Every weight of a version is its number, so that an answer of weights of two versions is that of none.
        if numbers != {2.0 * version * version + version}:
            self.wrong.append(f"{what}: version {version} answered {sorted(numbers)}")
        self.answers[f"{model} {version}"] += 1


async def client(target: str, models: Sequence[tuple[str, str]], findings: Findings, seed: int) -> None:
    """Asks one question after the other, until it is cancelled."""
    choose = random.Random(seed)
    own = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))
    async with grpc.aio.insecure_channel(target, options=own) as channel:
        while True:
            model, label = choose.choice(models)
            await findings.ask(choose.choice(QUESTIONS), channel, model, choose.choice(("", label)))
            findings.served.add(seed)


async def main(target: str, count: int, models: Sequence[tuple[str, str]]) -> None:
    findings = Findings()
    clients = [asyncio.ensure_future(client(target, models, findings, seed)) for seed in range(count)]
    said = asyncio.ensure_future(asyncio.to_thread(sys.stdin.readline))
    await asyncio.wait([*clients, said], return_when=asyncio.FIRST_COMPLETED)  # a client ends only by an error
    for each in clients:
        each.cancel()
    ends = await asyncio.gather(*clients, return_exceptions=True)
    errors = [repr(each) for each in ends if isinstance(each, Exception)]
    found = {"answers": findings.answers, "wrong": findings.wrong, "failed": [*findings.failed, *errors]}
    sys.stdout.write(json.dumps({**found, "idle": count - len(findings.served)}))


asyncio.run(main(sys.argv[1], int(sys.argv[2]), [(each.split(":")[0], each.split(":")[1]) for each in sys.argv[3:]]))
