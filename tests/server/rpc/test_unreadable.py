"""A token with a slip in it, sent by a client that checks nothing: it reaches no log."""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING

from fluoroscope_server.metrics import Metrics
from fluoroscope_server.rpc import RpcServer
from fluoroscope_server.serving import Repository
from fluoroscope_server.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

HEADERS, DATA, SETTINGS = 1, 0, 4
END_STREAM, END_HEADERS = 1, 4
TOKEN = b"fluoroscope_secret"


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame of HTTP/2."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(name: bytes, value: bytes) -> bytes:
    """A header field that is neither compressed nor remembered."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


FIELDS = {
    b":method": b"POST",
    b":scheme": b"http",
    b":path": b"/fluoroscope.v1.ModelService/ListModels",
    b":authority": b"localhost",
    b"content-type": b"application/grpc",
    b"te": b"trailers",
    b"authorization": b"Bearer " + TOKEN + b"\xff",
}
CALL = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    + frame(SETTINGS, 0, 0, b"")
    + frame(HEADERS, END_HEADERS, 1, b"".join(literal(*field) for field in FIELDS.items()))
    + frame(DATA, END_STREAM, 1, bytes(5))
)


def test_a_token_that_is_no_text_is_not_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    tokens = tmp_path / "tokens.toml"
    tokens.touch(mode=0o600)

    async def main() -> bytes:
        server = RpcServer(Repository(), Metrics(), Settings(models=(), tokens=tokens))
        host, _, port = (await server.start("127.0.0.1:0")).rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(CALL)
        answer = b""
        while b"none that this server knows" not in answer:
            answer += await reader.readuntil(b"grpc-message")
            answer += await reader.read(1000)
        writer.close()
        await server.drain(0)
        return answer

    assert TOKEN not in asyncio.run(asyncio.wait_for(main(), 30))
    written = [f"{each.getMessage()} {each.__dict__}" for each in caplog.records]
    assert not [each for each in (*written, *capfd.readouterr()) if TOKEN.decode() in each]
