"""The end of a server with fifty streams under way: all complete, or say clearly that it ends; nothing hangs."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import numpy as np
import pytest

from fluoroscope.v1 import inference_pb2, inspection_pb2
from fluoroscope.wire import StreamJoiner, encode_tensor
from fluoroscope_server.metrics import Metrics
from fluoroscope_server.rpc import RpcServer
from fluoroscope_server.settings import Settings

from ..serving.house import repository_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fluoroscope_server.serving import Servable

WAIT = 30
STREAMS = 50
INPUTS = {"image": encode_tensor(np.ones((1, 2, 2), np.float32))}
INSPECT = inspection_pb2.InspectActivationsRequest(
    model="digits", captures=[inspection_pb2.Capture(sites=["**"])], inputs=INPUTS
).SerializeToString()
PREDICT = inference_pb2.PredictRequest(model="digits", inputs=INPUTS).SerializeToString()


async def ending(call: Any) -> str:
    """Returns how a stream ended: that it is complete, or its status and what it says."""
    joiner = StreamJoiner()
    try:
        async for message in call:
            joiner.feed(message)
    except grpc.aio.AioRpcError as error:
        return f"{error.code().name}: {error.details()}"
    joiner.finish()
    return "complete"


class Draining:
    """A server, and fifty streams of one client that wait for the device."""

    def __init__(self, server: RpcServer, channel: Any, metrics: Metrics) -> None:
        self.server = server
        self.channel = channel
        self.metrics = metrics
        self.streams: list[asyncio.Future[str]] = []

    async def begin(self) -> None:
        method = self.channel.unary_stream("/fluoroscope.v1.InspectionService/InspectActivations")
        self.streams = [asyncio.ensure_future(ending(method(INSPECT, timeout=WAIT))) for _ in range(STREAMS)]
        labels = {
            "grpc_type": "server_stream",
            "grpc_service": "fluoroscope.v1.InspectionService",
            "grpc_method": "InspectActivations",
        }
        while self.metrics.registry.get_sample_value("grpc_server_msg_sent_total", labels) != STREAMS:  # noqa: ASYNC110 (a counter has no event to wait for)
            await asyncio.sleep(0.001)  # each has its header, and waits for its first value

    async def predict(self) -> Any:
        method = self.channel.unary_unary("/fluoroscope.v1.InferenceService/Predict")
        return await method(PREDICT, timeout=WAIT)


@asynccontextmanager
async def draining(servable: Servable) -> AsyncIterator[tuple[Draining, threading.Event]]:
    repository, metrics = repository_of(servable), Metrics()
    server = RpcServer(repository, metrics, Settings(models=()))
    address = await server.start("127.0.0.1:0")
    go = threading.Event()
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            them = Draining(server, channel, metrics)
            holding = servable.device.submit(lambda: go.wait(WAIT))
            await them.begin()
            yield them, go
            go.set()
            await holding
    finally:
        go.set()
        await server.drain(0)


def run(test: Any) -> None:
    asyncio.run(asyncio.wait_for(test(), 2 * WAIT))


def test_streams_under_way_are_finished_and_new_calls_are_refused(servable: Servable) -> None:
    async def test() -> None:
        async with draining(servable) as (them, go):
            drain = asyncio.ensure_future(them.server.drain(WAIT))
            await asyncio.sleep(0)  # it has begun
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await them.predict()
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            assert not drain.done()
            go.set()
            assert Counter(await asyncio.gather(*them.streams)) == {"complete": STREAMS}
            await drain

    run(test)


def test_when_the_grace_is_over_streams_end_with_a_clear_word(servable: Servable) -> None:
    async def test() -> None:
        async with draining(servable) as (them, _):
            await them.server.drain(0.05)
            assert Counter(await asyncio.gather(*them.streams)) == {
                "UNAVAILABLE: the server ends, and did not wait for this call any longer: ask another": STREAMS
            }

    run(test)
