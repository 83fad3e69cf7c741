"""Connections that say nothing, that say too much, and whose client is gone."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # its stubs have only what is public
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest

from fluoroscope_server.configuration import SETTINGS
from fluoroscope_server.metrics import Metrics
from fluoroscope_server.rpc import RpcServer, connection
from fluoroscope_server.serving import Repository
from fluoroscope_server.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

WAIT = 30
SILENT = 500
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
"""How a client of HTTP/2 begins: the preface, and settings of which there are none."""
PING = b"\0\0\x08\6\0\0\0\0\0" + b"anybody?"
PONG = b"\0\0\x08\6\1\0\0\0\0" + b"anybody?"

REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
WATCH = "/grpc.health.v1.Health/Watch"
LIST = "/fluoroscope.v1.ModelService/ListModels"


def serve(test: Callable[[str, Metrics], Coroutine[Any, Any, None]], **settings: Any) -> None:
    async def main() -> None:
        metrics = Metrics()
        server = RpcServer(Repository(), metrics, Settings(models=(), **settings))
        address = await server.start("127.0.0.1:0")
        try:
            await test(address, metrics)
        finally:
            await server.drain(0)

    asyncio.run(asyncio.wait_for(main(), WAIT))


def dial(address: str) -> socket.socket:
    host, port = address.split(":")
    return socket.create_connection((host, int(port)), timeout=WAIT)


def heard(dialled: socket.socket, word: bytes | None = None) -> bytes:
    """Returns all that a server says until it has said a word, or hangs up."""
    said = b""
    while (word is None or word not in said) and (data := dialled.recv(1 << 16)):
        said += data
    return said


async def ask(address: str) -> None:
    async with grpc.aio.insecure_channel(address, options=(("grpc.use_local_subchannel_pool", 1),)) as channel:
        call: Any = channel.unary_unary(LIST)
        await call(b"", timeout=WAIT)


def test_the_largest_numbers_that_may_be_set_are_none_that_grpc_refuses() -> None:
    async def test(address: str, _: Metrics) -> None:
        await ask(address)

    numbers = [each for each in SETTINGS if each.kind in {int, float}]
    largest = {each.field: each.kind((each.most or 1e15) * each.unit) for each in numbers}
    assert largest["max_connections"] > 1e9
    serve(test, **largest)


def test_connections_that_say_nothing_do_no_harm_and_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HANDSHAKE_SECONDS", 1)

    async def test(address: str, _: Metrics) -> None:
        with ExitStack() as stack:
            silent = [stack.enter_context(dial(address)) for _ in range(SILENT)]
            start = time.monotonic()
            await ask(address)
            assert time.monotonic() - start < WAIT / 3
            for each in (silent[0], silent[-1]):
                await asyncio.to_thread(heard, each)
        await ask(address)

    serve(test)


def test_a_client_that_is_gone_is_noticed() -> None:
    """It greets, and then does not even answer whether it is still there."""

    async def test(address: str, _: Metrics) -> None:
        with dial(address) as gone:
            gone.sendall(HELLO)
            assert b"ping_timeout" in await asyncio.to_thread(heard, gone)

    serve(test, keepalive_seconds=1.0, keepalive_timeout_seconds=0.1)


def test_an_idle_connection_is_closed() -> None:
    async def test(address: str, _: Metrics) -> None:
        with dial(address) as idle:
            idle.sendall(HELLO)
            assert b"connection idle" in await asyncio.to_thread(heard, idle)

    serve(test, max_connection_idle_seconds=0.1)


def test_an_old_connection_is_closed_and_its_calls_are_finished() -> None:
    async def test(address: str, metrics: Metrics) -> None:
        del metrics
        question = ServerReflectionRequest(list_services="").SerializeToString()
        async with grpc.aio.insecure_channel(address, options=(("grpc.use_local_subchannel_pool", 1),)) as channel:
            method: Any = channel.stream_stream(REFLECTION)
            call = method(timeout=WAIT)
            await call.write(question)
            assert await call.read()
            for _ in range(2):  # one after the other, so that the call's own connection has grown old behind them
                with dial(address) as old:
                    old.sendall(HELLO)
                    assert b"max_age" in await asyncio.to_thread(heard, old, b"max_age")
            await call.write(question)
            assert await call.read()
            call.cancel()
            again: Any = channel.unary_unary(LIST)
            await again(b"", timeout=WAIT)  # by another connection

    serve(test, max_connection_age_seconds=0.2)


def test_a_client_that_asks_too_often_whether_anybody_is_there_is_disconnected() -> None:
    async def test(address: str, _: Metrics) -> None:
        with dial(address) as nervous:
            nervous.sendall(HELLO + 4 * PING)
            assert b"too_many_pings" in await asyncio.to_thread(heard, nervous)

    serve(test, min_ping_seconds=60.0)


def test_a_client_may_ask_as_often_as_it_is_allowed_to() -> None:
    async def test(address: str, _: Metrics) -> None:
        with dial(address) as calm:
            calm.sendall(HELLO)
            for ping in [PING] * 6:
                calm.sendall(ping)
                said = await asyncio.to_thread(heard, calm, PONG)
                assert PONG in said
                assert b"too_many_pings" not in said
                await asyncio.sleep(0.01)  # the least there is between two

    serve(test, min_ping_seconds=0.0)


def test_one_connection_has_no_more_calls_than_it_may() -> None:
    async def test(address: str, metrics: Metrics) -> None:
        labels = {"grpc_type": "server_stream", "grpc_service": "grpc.health.v1.Health", "grpc_method": "Watch"}
        async with grpc.aio.insecure_channel(address) as channel:
            method: Any = channel.unary_stream(WATCH)
            watches = [method(b"", timeout=WAIT) for _ in range(2)]
            for each in watches:
                await each.read()
            third = method(b"", timeout=WAIT)
            reading = asyncio.ensure_future(third.read())
            await ask(address)  # from another connection; by now the third has had its time
            assert metrics.registry.get_sample_value("grpc_server_started_total", labels) == 2
            assert not reading.done()
            watches[0].cancel()
            assert await reading
            for each in (watches[1], third):
                each.cancel()

    serve(test, max_calls_per_connection=2)


@pytest.mark.skipif(
    b"grpc.max_allowed_incoming_connections" not in Path(cygrpc.__file__).read_bytes(), reason="an older gRPC"
)
def test_connections_have_an_end() -> None:
    async def test(address: str, _: Metrics) -> None:
        with ExitStack() as stack:
            first = [stack.enter_context(dial(address)) for _ in range(2)]
            for each in first:
                each.sendall(HELLO)
                assert await asyncio.to_thread(each.recv, 1)
            assert await asyncio.to_thread(heard, stack.enter_context(dial(address))) == b""

    serve(test, max_connections=2)
