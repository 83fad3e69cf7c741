"""Limits as a client meets them: what is refused, how it is told when to come back, and who is not in the way."""

from __future__ import annotations

import asyncio
import re
import threading
from contextlib import asynccontextmanager
from contextvars import copy_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2

import fluoroscope_server
from fluoroscope.v1 import inference_pb2, inspection_pb2
from fluoroscope.wire import encode_tensor
from fluoroscope_server.metrics import SHED, Metrics
from fluoroscope_server.rpc import RpcServer
from fluoroscope_server.rpc.context import current_client, remember_peer
from fluoroscope_server.rpc.gate import WATCH_BYTES
from fluoroscope_server.rpc.status import DETAILS_KEY, PUSHBACK_KEY
from fluoroscope_server.settings import Settings

from ..serving.house import repository_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from fluoroscope_server.serving import Servable

WAIT = 30
PREDICT = "/fluoroscope.v1.InferenceService/Predict"
INSPECT = "/fluoroscope.v1.InspectionService/InspectActivations"
WATCH = "/grpc.health.v1.Health/Watch"
CHECK = "/grpc.health.v1.Health/Check"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


def inputs(rows: int = 1) -> dict[str, Any]:
    return {"image": encode_tensor(np.ones((rows, 2, 2), np.float32))}


def predict_request(rows: int = 1) -> bytes:
    return inference_pb2.PredictRequest(model="digits", inputs=inputs(rows)).SerializeToString()


def inspect_request(*sites: str, **more: Any) -> bytes:
    captures = [inspection_pb2.Capture(sites=sites)]
    request = inspection_pb2.InspectActivationsRequest(model="digits", captures=captures, inputs=inputs(), **more)
    return request.SerializeToString()


HISTOGRAMS = inspection_pb2.InspectActivationsRequest(
    model="digits",
    inputs=inputs(),
    captures=[
        inspection_pb2.Capture(
            sites=["Dense_0"],
            reductions=[
                inspection_pb2.Reduction(histogram=inspection_pb2.Reduction.Histogram(bins=9, low=float(low)))
                for low in range(first, first + 100)
            ],
        )
        for first in range(0, 20_100, 100)
    ],
).SerializeToString()
"""Asks for more results than may ever be asked for."""


class Served:
    """A server with the small network, and a client of it."""

    def __init__(self, server: RpcServer, address: str, servable: Servable, channel: Any, metrics: Metrics) -> None:
        self.server = server
        self.address = address
        self.servable = servable
        self.channel = channel
        self.metrics = metrics

    def predict(self, rows: int = 1, *, timeout: float = WAIT) -> Any:
        return self.channel.unary_unary(PREDICT)(predict_request(rows), timeout=timeout)

    def inspect(self, *sites: str) -> Any:
        return self.channel.unary_stream(INSPECT)(inspect_request(*sites), timeout=WAIT)

    def shed(self, reason: str) -> float:
        value = self.metrics.registry.get_sample_value("fluoroscope_shed_total", {"reason": reason})
        assert value is not None
        return value

    def in_flight(self, path: str = PREDICT) -> float:
        """Returns how many calls of a method are under way."""
        kind = "unary" if path == PREDICT else "server_stream"
        _, service, method = path.split("/")
        labels = {"grpc_type": kind, "grpc_service": service, "grpc_method": method}
        value = self.metrics.registry.get_sample_value("grpc_server_in_flight", labels)
        assert value is not None
        return value

    @asynccontextmanager
    async def busy(self) -> AsyncIterator[None]:
        """The device has something else to do meanwhile."""
        go = threading.Event()
        holding = [self.servable.device.submit(lambda: go.wait(WAIT)) for _ in range(self.servable.device.workers)]
        try:
            yield
        finally:
            go.set()
            await asyncio.gather(*holding)

    async def waiting(self, count: int) -> None:
        """Waits until so many predictions wait for the device behind those that are on their way to it."""
        batcher = self.servable.batcher
        while batcher.idle or batcher.waiting != count:  # noqa: ASYNC110 (a queue has no event to wait for)
            await asyncio.sleep(0.001)


def run(servable: Servable, test: Any, **limits: Any) -> None:
    async def main() -> None:
        repository, metrics = repository_of(servable), Metrics()
        server = RpcServer(repository, metrics, Settings(models=(), **limits))
        address = await server.start("127.0.0.1:0")
        server.set_health("", serving=True)
        try:
            async with grpc.aio.insecure_channel(address) as channel:
                await test(Served(server, address, servable, channel, metrics))
        finally:
            await server.drain(0)

    asyncio.run(asyncio.wait_for(main(), 2 * WAIT))


async def refused(call: Coroutine[Any, Any, Any]) -> tuple[str, str, float | None, str | None]:
    """Returns the code, the reason, the seconds of RetryInfo, and the pushback of a call that is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    trailing: dict[str, Any] = {key: value for key, value in caught.value.trailing_metadata() or ()}  # noqa: C416 (no mapping)
    info, retry, seconds = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo(), None
    for detail in status_pb2.Status.FromString(trailing[DETAILS_KEY]).details:
        if detail.Unpack(retry):
            seconds = retry.retry_delay.ToTimedelta().total_seconds()
        detail.Unpack(info)
    return caught.value.code().name, info.reason, seconds, trailing.get(PUSHBACK_KEY)


async def to_its_end(call: Any) -> int:
    return len([message async for message in call])


async def answer(call: Any) -> Any:
    return await call


def test_a_full_queue_sheds_and_says_when_to_come_back(servable: Servable) -> None:
    async def test(served: Served) -> None:
        async with served.busy():
            first = asyncio.ensure_future(answer(served.predict(4)))
            await served.waiting(0)
            queued = [asyncio.ensure_future(answer(served.predict())) for _ in range(2)]
            await served.waiting(2)
            code, reason, seconds, pushback = await refused(answer(served.predict()))
            assert (code, reason) == ("RESOURCE_EXHAUSTED", "QUEUE_FULL")
            assert seconds is not None
            assert pushback is not None
            assert 0.05 <= seconds <= 0.15
            assert int(pushback) == round(1000 * seconds)
            assert served.shed("QUEUE_FULL") == 1
            check = served.channel.unary_unary(CHECK)
            assert health_pb2.HealthCheckResponse.FromString(await check(b"")).status == 1, "it is busy, not dead"
        await asyncio.gather(first, *queued)
        await served.predict()

    run(servable, test, max_queue=2)


def test_a_deadline_that_passes_in_the_queue(servable: Servable, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody waits for any more is never computed."""
    computed: list[int] = []
    predict = type(servable.engine).predict

    def counted(engine: Any, bucket: int, padded: Any) -> Any:
        computed.append(int(sum(padded["image"][:, 0, 0] if isinstance(padded, dict) else padded[0][:, 0, 0])))
        return predict(engine, bucket, padded)

    async def test(served: Served) -> None:
        async with served.busy():
            first = asyncio.ensure_future(answer(served.predict(4)))
            late = [asyncio.ensure_future(answer(served.predict(2, timeout=0.3))) for _ in range(2)]
            kept = asyncio.ensure_future(answer(served.predict(1)))
            for each in late:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await each
                assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            while served.in_flight() > 2:  # noqa: ASYNC110 (the server's own clock may be a moment behind)
                await asyncio.sleep(0.001)
        await asyncio.gather(first, kept)
        assert sum(computed) == 5

    with monkeypatch.context() as patch:
        patch.setattr(type(servable.engine), "predict", counted)
        run(servable, test)


def test_streams_of_one_client_and_of_all(servable: Servable) -> None:
    async def test(served: Served) -> None:
        async with served.busy():
            streams = [served.inspect("Dense_0") for _ in range(2)]
            for each in streams:
                assert await anext(aiter(each)), "its header has come"
            code, reason, *_ = await refused(to_its_end(served.inspect("Dense_0")))
            assert (code, reason) == ("RESOURCE_EXHAUSTED", "CLIENT_STREAMS_BUSY")
            assert served.shed("CLIENT_STREAMS_BUSY") == 1
            streams[0].cancel()
            while served.in_flight(INSPECT) > 1:  # noqa: ASYNC110 (a gauge has no event to wait for)
                await asyncio.sleep(0.001)
            third = served.inspect("Dense_0")
            assert await anext(aiter(third))
        for each in (streams[1], third):
            assert await to_its_end(each) >= 2
        assert await to_its_end(served.inspect("Dense_0")) >= 3

    run(servable, test, max_streams_per_client=2, max_streams=3)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [({"max_watches": 2}, "WATCHES_BUSY"), ({"max_watches_per_client": 2}, "CLIENT_WATCHES_BUSY")],
)
@pytest.mark.parametrize("method", [WATCH, REFLECTION])
def test_streams_that_anybody_may_open_have_an_end(
    servable: Servable, method: str, limits: dict[str, int], reason: str
) -> None:
    async def test(served: Served) -> None:
        watch, reflect = served.channel.unary_stream(WATCH), served.channel.stream_stream(REFLECTION)
        reflecting = reflect(timeout=WAIT)
        await reflecting.write(b"")
        assert await reflecting.read()
        watching = watch(b"", timeout=WAIT)
        assert await watching.read()
        more = served.channel.unary_stream(method)
        assert (await refused(to_its_end(more(b"", timeout=WAIT))))[:2] == ("RESOURCE_EXHAUSTED", reason)
        assert served.shed(reason) == 1
        assert await served.predict()
        assert await served.channel.unary_unary(CHECK)(b"", timeout=WAIT)
        watching.cancel()
        while served.in_flight(WATCH):  # noqa: ASYNC110 (a gauge has no event to wait for)
            await asyncio.sleep(0.001)
        assert await more(b"", timeout=WAIT).read(), "there is room again"

    run(servable, test, **limits)


@pytest.mark.parametrize("method", [WATCH, REFLECTION, CHECK])
def test_a_question_for_health_or_reflection_is_small(servable: Servable, method: str) -> None:
    """Nobody needs a token for health, its streams are open for days, and no other limit counts what they hold."""

    async def test(served: Served) -> None:
        for size, seen in ((WATCH_BYTES, 0), (WATCH_BYTES + 1, 1)):
            call = served.channel.unary_stream(method)(bytes(size), timeout=WAIT)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await to_its_end(call)
            assert (caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED) == seen
            assert served.shed("REQUEST_TOO_LARGE") == seen
        assert "4,097 bytes, and the limit for health and reflection is 4,096" in str(caught.value.details())

    run(servable, test)


@pytest.mark.parametrize(
    ("limits", "method", "request_bytes", "reason"),
    [
        ({"max_results": 2}, INSPECT, inspect_request("Dense_*"), "TOO_MANY_RESULTS"),
        ({"max_results": 20_000}, INSPECT, HISTOGRAMS, "TOO_MANY_RESULTS"),
        ({"max_inspection_bytes": 10}, INSPECT, inspect_request("Dense_0"), "INSPECTION_TOO_LARGE"),
        ({"max_rows": 2}, PREDICT, predict_request(3), "TOO_MANY_ROWS"),
        ({}, PREDICT, predict_request(100), "TOO_MANY_ROWS"),
        ({"max_answer_bytes": 3 * 3 * 4 - 1}, PREDICT, predict_request(3), "ANSWER_TOO_LARGE"),
    ],
    ids=["results", "all results", "inspection", "rows", "bucket", "answer"],
)
def test_what_is_too_large_at_any_time_is_not_to_be_asked_again(
    servable: Servable, limits: dict[str, int], method: str, request_bytes: bytes, reason: str
) -> None:
    async def test(served: Served) -> None:
        call = served.channel.unary_stream(method)(request_bytes, timeout=WAIT)
        assert await refused(to_its_end(call)) == ("RESOURCE_EXHAUSTED", reason, None, "-1")
        assert served.shed(reason) == 1

    run(servable, test, **limits)


def test_an_answer_is_as_large_as_its_limit_and_its_error_says_what_to_do(servable: Servable) -> None:
    async def test(served: Served) -> None:
        executed = servable.tally.sums().executions
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.predict(3)
        assert caught.value.details() == (
            "the outputs of 3 rows would have 36 bytes, and the limit is 24 (max-answer-mib): send fewer rows, or name "
            "the outputs that are needed"
        )
        assert servable.tally.sums().executions == executed, "nothing was computed for it"
        found = inference_pb2.PredictResponse.FromString(await served.predict(2))
        assert len(found.outputs["logits"].data) == 24

    run(servable, test, max_answer_bytes=24)


def test_a_clients_own_retries_heed_the_pushback(servable: Servable) -> None:
    """gRPC itself asks again after what the server says, and not at all where it says never."""
    policy = '{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 5, "initialBackoff": "60s", '
    policy += '"maxBackoff": "60s", "backoffMultiplier": 1, "retryableStatusCodes": ["RESOURCE_EXHAUSTED"]}}]}'

    async def test(served: Served) -> None:
        async with grpc.aio.insecure_channel(served.address, options=(("grpc.service_config", policy),)) as channel:
            patient = Served(served.server, served.address, servable, channel, served.metrics)
            await refused(answer(patient.predict(100)))
            assert served.shed("TOO_MANY_ROWS") == 1
            async with served.busy():
                stream = served.inspect("Dense_0")
                assert await anext(aiter(stream))
                asked = asyncio.ensure_future(answer(patient.predict()))
                while served.shed("CLIENT_CALLS_BUSY") < 1:  # noqa: ASYNC110 (a counter has no event to wait for)
                    await asyncio.sleep(0.001)
            await to_its_end(stream)
            await asked

    run(servable, test, max_calls_per_client=1)


def test_every_reason_of_a_limit_is_counted_from_the_start() -> None:
    sources = "".join(path.read_text() for path in Path(fluoroscope_server.__file__).parent.rglob("*.py"))
    raised = re.findall(r'(?:LimitExceededError|_busy)\((?:(?!\n\n).)*?reason="([A-Z_]+)"', sources, re.DOTALL)
    assert set(raised) == set(SHED)
    text = (Path(__file__).parents[3] / "docs/operations.md").read_text()
    rows = " ".join(re.findall(r"^\| ([A-Z_, ]+) \|", text, re.MULTILINE))
    assert set(re.findall("[A-Z_]+", rows.replace(",", " "))) >= set(SHED)


@pytest.mark.parametrize(
    ("peer", "client"),
    [
        ("ipv4:10.0.0.7:40000", "ipv4:10.0.0.7"),
        ("ipv6:%5B::1%5D:40000", "ipv6:%5B::1%5D"),
        ("unix:", "unix:"),
        ("unix:/run/a:1", "unix:/run/a:1"),
    ],
)
def test_who_calls(peer: str, client: str) -> None:
    class Context:
        def peer(self) -> str:
            return peer

    context: Any = Context()
    copy_context().run(remember_peer, context)
    assert current_client() == "", "each call has its own"
    remembered = copy_context()
    remembered.run(remember_peer, context)
    assert remembered.run(current_client) == client
