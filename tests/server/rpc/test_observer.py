"""The observer, on a real server: every call is counted once, whatever becomes of it."""

from __future__ import annotations

import asyncio
import logging
import re
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2

from fluoroscope_server.errors import LimitExceededError, NotFoundError
from fluoroscope_server.metrics import CODES, Metrics
from fluoroscope_server.rpc.observer import Observer
from fluoroscope_server.rpc.status import DETAILS_KEY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

WAIT = 20
SECRET = "the password is hunter2"


async def fails(what: bytes, context: Any) -> None:
    """Ends a call as its request says."""
    if what == b"domain":
        raise NotFoundError("there is no such thing", field="thing", reason="THING_NOT_FOUND")
    if what == b"limit":
        raise LimitExceededError("too much")
    if what == b"unexpected":
        raise ZeroDivisionError(SECRET)
    if what == b"aborts":
        await context.abort(grpc.StatusCode.DATA_LOSS, "torn")
    if what == b"hangs":
        await asyncio.Event().wait()


async def unary(request: bytes, context: Any) -> bytes:
    await fails(request, context)
    return request


async def generate(request: bytes, context: Any) -> AsyncIterator[bytes]:
    for index in range(3):
        yield b"%d" % index
    await fails(request, context)


async def echo(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        await fails(request, context)
        yield request


METHODS: dict[str, Any] = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Generate": grpc.unary_stream_rpc_method_handler(generate),
    "Echo": grpc.stream_stream_rpc_method_handler(echo),
}
KINDS = {"Unary": "unary", "Generate": "server_stream", "Echo": "bidi_stream"}


@dataclass
class Served:
    """A server under observation, and a client."""

    channel: Any
    """A grpc.aio.Channel; its methods are generic in gRPC's stubs only."""

    metrics: Metrics = field(default_factory=Metrics)

    def begin(self, method: str, request: bytes = b"", *, seconds: float = WAIT) -> Any:
        """Begins a call of a method, and returns gRPC's own object for it."""
        path = f"/test.Service/{method}"
        if method == "Unary":
            return self.channel.unary_unary(path)(request, timeout=seconds)
        if method == "Echo":
            requests = [b"", b"", request] if request else [b"", b""]
            return self.channel.stream_stream(path)(iter(requests), timeout=seconds)
        return self.channel.unary_stream(path)(request, timeout=seconds)

    async def call(self, method: str, request: bytes = b"", *, seconds: float = WAIT) -> list[bytes]:
        """Calls a method to its end; returns all messages."""
        call = self.begin(method, request, seconds=seconds)
        return [await call] if method == "Unary" else [message async for message in call]

    def value(self, name: str, method: str, **labels: str) -> float:
        """Returns what a series of a method has counted."""
        labels |= {"grpc_type": KINDS[method], "grpc_service": "test.Service", "grpc_method": method}
        value = self.metrics.registry.get_sample_value(name, labels)
        assert value is not None
        return value

    def handled(self, method: str) -> dict[str, float]:
        """Returns how many calls of a method ended, by code."""
        counts = {code: self.value("grpc_server_handled_total", method, grpc_code=code) for code in CODES}
        return {code: count for code, count in counts.items() if count}

    async def in_flight(self, method: str, count: int) -> None:
        """Waits until so many calls of a method are under way."""
        while self.value("grpc_server_in_flight", method) != count:  # noqa: ASYNC110 (a gauge has no event to wait for)
            await asyncio.sleep(0.001)


def serve(test: Callable[[Served], Awaitable[None]]) -> None:
    async def main() -> None:
        server = grpc.aio.server()
        metrics = Metrics()
        observer = Observer(metrics)
        observed = {name: observer.observe(f"/test.Service/{name}", handler) for name, handler in METHODS.items()}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", observed),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                await test(Served(channel=channel, metrics=metrics))
        finally:
            await server.stop(0)

    asyncio.run(asyncio.wait_for(main(), 3 * WAIT))


SENT = {"Unary": 1, "Generate": 3, "Echo": 2}
RECEIVED = {"Unary": 1, "Generate": 1, "Echo": 2}


@pytest.mark.parametrize("method", METHODS)
def test_a_call_that_succeeds(method: str) -> None:
    async def test(served: Served) -> None:
        for calls in (1, 2):
            assert len(await served.call(method)) == SENT[method]
            await served.in_flight(method, 0)
            assert served.value("grpc_server_started_total", method) == calls
            assert served.handled(method) == {"OK": calls}
            assert served.value("grpc_server_msg_sent_total", method) == calls * SENT[method]
            assert served.value("grpc_server_msg_received_total", method) == calls * RECEIVED[method]
            assert served.value("grpc_server_handling_seconds_count", method) == calls

    serve(test)


def details(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    trailing: dict[str, Any] = {key: value for key, value in error.trailing_metadata() or ()}  # noqa: C416 (no mapping)
    return status_pb2.Status.FromString(trailing[DETAILS_KEY])


def info(status: status_pb2.Status) -> error_details_pb2.ErrorInfo:
    found = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(found)
    return found


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("request_bytes", "code", "message", "reason"),
    [
        (b"domain", grpc.StatusCode.NOT_FOUND, "there is no such thing", "THING_NOT_FOUND"),
        (b"limit", grpc.StatusCode.RESOURCE_EXHAUSTED, "too much", "LIMIT_EXCEEDED"),
    ],
)
def test_an_error_of_the_domain(
    request_bytes: bytes, code: grpc.StatusCode, message: str, reason: str, method: str
) -> None:
    async def test(served: Served) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.call(method, request_bytes)
        assert (caught.value.code(), caught.value.details()) == (code, message)
        status = details(caught.value)
        assert (status.code, status.message) == (code.value[0], message)
        assert info(status).reason == reason
        await served.in_flight(method, 0)
        assert served.handled(method) == {code.name: 1}
        assert await served.call(method)

    serve(test)


@pytest.mark.parametrize("method", METHODS)
def test_an_error_that_nobody_expected(method: str, caplog: pytest.LogCaptureFixture) -> None:
    """The caller gets an id, and the log has the rest."""

    async def test(served: Served) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.call(method, b"unexpected")
        assert caught.value.code() is grpc.StatusCode.INTERNAL
        found = re.fullmatch(
            "internal error ([0-9a-f]{12}): the server's log has the details under this id", str(caught.value.details())
        )
        assert found
        assert info(details(caught.value)).reason == "INTERNAL"
        everything = f"{caught.value.details()} {caught.value.trailing_metadata()}"
        assert SECRET not in everything
        assert "ZeroDivision" not in everything
        (record,) = [each for each in caplog.records if each.name == "fluoroscope_server.rpc.call_log"]
        assert found[1] in record.getMessage()
        assert record.exc_info
        assert str(record.exc_info[1]) == SECRET
        await served.in_flight(method, 0)
        assert served.handled(method) == {"INTERNAL": 1}

    with caplog.at_level(logging.ERROR):
        serve(test)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_that_aborts_by_itself(method: str) -> None:
    async def test(served: Served) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.call(method, b"aborts")
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.DATA_LOSS, "torn")
        await served.in_flight(method, 0)
        assert served.handled(method) == {"DATA_LOSS": 1}

    serve(test)


@pytest.mark.parametrize("method", METHODS)
def test_a_caller_who_gives_up(method: str) -> None:
    async def test(served: Served) -> None:
        call = served.begin(method, b"hangs")
        await served.in_flight(method, 1)
        call.cancel()
        await served.in_flight(method, 0)
        assert served.handled(method) == {"CANCELLED": 1}
        assert served.value("grpc_server_handling_seconds_count", method) == 1
        assert await served.call(method)

    serve(test)


@pytest.mark.parametrize("method", METHODS)
def test_a_deadline(method: str) -> None:
    async def test(served: Served) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.call(method, b"hangs", seconds=0.2)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await served.in_flight(method, 0)
        # The client hangs up when its own clock says so, once in a hundred times a moment before the server's does.
        assert served.handled(method) in ({"DEADLINE_EXCEEDED": 1}, {"CANCELLED": 1})

    serve(test)


def test_a_reader_who_leaves_in_the_middle_of_a_stream() -> None:
    """The stream is not at a wait of its own then, but at the sending of a message that nobody reads.

    It ends in the task of the call: after that, gRPC has no call any more, and whoever asked it of one would crash.
    """
    tasks = []

    async def endless(request: bytes, context: Any) -> AsyncIterator[bytes]:
        del request, context
        tasks.append(asyncio.current_task())
        try:
            while True:
                yield b"x" * (1 << 20)
        finally:
            tasks.append(asyncio.current_task())

    async def main() -> None:
        server, metrics = grpc.aio.server(), Metrics()
        handler = Observer(metrics).observe("/test.Service/Generate", grpc.unary_stream_rpc_method_handler(endless))
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", {"Generate": handler}),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            served = Served(channel=channel, metrics=metrics)
            call = served.channel.unary_stream("/test.Service/Generate")(b"")
            assert await call.read()
            call.cancel()
            await served.in_flight("Generate", 0)
            assert served.handled("Generate") == {"CANCELLED": 1}
            begun, ended = tasks
            assert begun is ended
        await server.stop(0)

    asyncio.run(asyncio.wait_for(main(), WAIT))


def test_many_calls_at_once_are_counted_once_each() -> None:
    async def test(served: Served) -> None:
        wanted = [b"", b"domain", b"unexpected", b"limit"] * 10
        answers = await asyncio.gather(*(served.call("Unary", each) for each in wanted), return_exceptions=True)
        assert sum(isinstance(each, list) for each in answers) == 10
        await served.in_flight("Unary", 0)
        assert served.value("grpc_server_started_total", "Unary") == 40
        assert served.handled("Unary") == {"OK": 10, "NOT_FOUND": 10, "INTERNAL": 10, "RESOURCE_EXHAUSTED": 10}

    serve(test)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("unary_unary", "unary"),
        ("unary_stream", "server_stream"),
        ("stream_unary", "client_stream"),
        ("stream_stream", "bidi_stream"),
    ],
)
def test_a_method_is_of_the_type_that_dashboards_for_gos_middleware_look_for(kind: str, name: str) -> None:
    metrics = Metrics()
    Observer(metrics).observe("/test.Service/Any", getattr(grpc, f"{kind}_rpc_method_handler")(unary))
    labels = {"grpc_type": name, "grpc_service": "test.Service", "grpc_method": "Any"}
    assert metrics.registry.get_sample_value("grpc_server_started_total", labels) == 0


def test_no_request_is_held_until_the_next_one_comes() -> None:
    """A stream may be silent for days, and its last request be large."""
    seen: list[weakref.ref[Message]] = []

    class Message:
        def __init__(self, data: bytes) -> None:
            self.data = data

    async def count(requests: AsyncIterator[Message], context: Any) -> AsyncIterator[bytes]:
        del context
        async for request in requests:
            seen.append(weakref.ref(request))
            del request
            yield b""

    async def main() -> None:
        server = grpc.aio.server()
        handler = Observer(Metrics()).observe(
            "/test.Service/Count", grpc.stream_stream_rpc_method_handler(count, request_deserializer=Message)
        )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", {"Count": handler}),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call: Any = channel.stream_stream("/test.Service/Count")()
            for index in range(2):
                await call.write(b"x")
                await call.read()
                while seen[index]() is not None:  # noqa: ASYNC110 (what is let go has no event to wait for)
                    await asyncio.sleep(0.001)
            await call.done_writing()
            assert await call.read() is grpc.aio.EOF
        await server.stop(0)

    asyncio.run(asyncio.wait_for(main(), WAIT))
