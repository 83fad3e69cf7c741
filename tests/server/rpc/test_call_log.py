"""What is written of calls, and how a request is named on both sides."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2

from fluoroscope_server.errors import NotFoundError
from fluoroscope_server.metrics import Metrics
from fluoroscope_server.rpc.call_log import LINES, REQUEST_ID, CallLog
from fluoroscope_server.rpc.observer import Observer
from fluoroscope_server.rpc.status import DETAILS_KEY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

WAIT = 20
TOKEN = "hunter2"
LOGGER = "fluoroscope_server.rpc.call_log"

Ask = "Callable[..., Awaitable[tuple[dict[str, Any], str]]]"


async def answer(request: bytes, _: Any) -> bytes:
    if request == b"missing":
        raise NotFoundError("there is no such thing", reason="THING_NOT_FOUND")
    if request == b"broken":
        raise ZeroDivisionError
    if request == b"hangs":
        await asyncio.Event().wait()
    return request


async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
    yield b"first"
    yield await answer(request, context)


def serve(test: Callable[[Any], Awaitable[None]], calls: str = "failed") -> None:
    """Runs a test with a way to ask: it returns the trailing metadata, and the name of the status."""

    async def main() -> None:
        server, observer = grpc.aio.server(), Observer(Metrics(), CallLog(calls))
        handlers: dict[str, Any] = {
            "Call": grpc.unary_unary_rpc_method_handler(answer),
            "Stream": grpc.unary_stream_rpc_method_handler(stream),
        }
        observed = {name: observer.observe(f"/test.Service/{name}", each) for name, each in handlers.items()}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", observed),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:

                async def ask(
                    request: bytes, *named: tuple[str, str | bytes], method: str = "Stream", seconds: float = WAIT
                ) -> tuple[dict[str, Any], str]:
                    path: Any = channel.unary_stream(f"/test.Service/{method}")
                    call = path(request, timeout=seconds, metadata=(*named, ("authorization", f"Bearer {TOKEN}")))
                    try:
                        async for _ in call:
                            pass
                    except grpc.aio.AioRpcError:
                        pass
                    trailing = {key: value for key, value in await call.trailing_metadata()}  # noqa: C416 (no mapping)
                    return trailing, (await call.code()).name

                await test(ask)
        finally:
            await server.stop(0)

    asyncio.run(asyncio.wait_for(main(), 2 * WAIT))


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    assert not [each for each in caplog.records if TOKEN in f"{each.getMessage()} {each.__dict__}"]
    return [{"message": each.getMessage(), **each.__dict__["fields"]} for each in caplog.records if each.name == LOGGER]


@pytest.mark.parametrize("method", ["Call", "Stream"])
@pytest.mark.parametrize("request_bytes", [b"fine", b"missing", b"broken"])
def test_a_request_is_named_as_its_client_says(method: str, request_bytes: bytes) -> None:
    async def test(ask: Any) -> None:
        trailing, _ = await ask(request_bytes, (REQUEST_ID, "5f/a-1.b:C=+_"), method=method)
        assert trailing[REQUEST_ID] == "5f/a-1.b:C=+_"
        trailing, _ = await ask(request_bytes, method=method)
        if request_bytes == b"fine":  # nobody asked, and nothing is written
            assert REQUEST_ID not in trailing
        else:
            assert re.fullmatch("[0-9a-f]{12}", trailing[REQUEST_ID])
            info = error_details_pb2.ErrorInfo()
            assert status_pb2.Status.FromString(trailing[DETAILS_KEY]).details[0].Unpack(info)
            assert info.metadata["request_id"] == trailing[REQUEST_ID]
            assert ("error_id" in info.metadata) == (request_bytes == b"broken")

    serve(test)


@pytest.mark.parametrize("name", ["", "a b", "x" * 129, '{"a":1}'])
def test_a_name_that_is_not_fit_to_be_printed_is_not_taken(name: str) -> None:
    async def test(ask: Any) -> None:
        trailing, code = await ask(b"missing", (REQUEST_ID, name))
        assert code == "NOT_FOUND"
        assert re.fullmatch("[0-9a-f]{12}", trailing[REQUEST_ID])

    serve(test)


def test_a_line_for_each_call_that_failed(caplog: pytest.LogCaptureFixture) -> None:
    async def test(ask: Any) -> None:
        for request in (b"fine", b"missing", b"broken"):
            await ask(request, (REQUEST_ID, request.decode()))
        assert (await ask(b"hangs", seconds=0.1))[1] == "DEADLINE_EXCEEDED"

    with caplog.at_level(logging.INFO):
        serve(test)
    missing, broken, *late = lines(caplog)
    seconds = missing.pop("seconds")
    assert 0 < seconds < WAIT
    assert missing == {
        "message": "call",
        "method": "/test.Service/Stream",
        "code": "NOT_FOUND",
        "request_id": "missing",
        "client": "ipv4:127.0.0.1",
        "reason": "THING_NOT_FOUND",
        "error": "there is no such thing",
        "left_out": None,
    }
    assert (broken["message"], broken["code"]) == ("internal error broken", "INTERNAL")
    assert [each["code"] for each in late] in (["DEADLINE_EXCEEDED"], [])  # or the client hung up a moment before


@pytest.mark.parametrize(
    ("calls", "written"),
    [
        ("none", ["internal error b"]),
        ("failed", ["call", "internal error b"]),
        ("all", ["call", "call", "internal error b"]),
    ],
)
def test_which_calls_have_a_line(calls: str, written: list[str], caplog: pytest.LogCaptureFixture) -> None:
    async def test(ask: Any) -> None:
        for request in (b"fine", b"missing", b"broken"):
            await ask(request, (REQUEST_ID, request.decode()[0]))

    with caplog.at_level(logging.INFO):
        serve(test, calls)
    assert [each["message"] for each in lines(caplog)] == written


def test_many_failures_are_few_lines_and_faults_of_ours_are_all_there(caplog: pytest.LogCaptureFixture) -> None:
    async def test(ask: Any) -> None:
        await asyncio.gather(*(ask(b"missing", method="Call") for _ in range(3 * LINES)))
        await asyncio.gather(*(ask(b"broken", method="Call") for _ in range(2)))

    with caplog.at_level(logging.INFO):
        serve(test)
    found = lines(caplog)
    told = [each for each in found if each["code"] == "NOT_FOUND"]
    assert LINES <= len(told) < 3 * LINES
    assert len(found) - len(told) == 2
