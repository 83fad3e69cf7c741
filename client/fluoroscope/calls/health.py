"""The operation that waits until a server can answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fluoroscope.calls.errors import ServerUnavailableError
from fluoroscope.calls.exchange import Exchange, StreamCall
from fluoroscope.wire.varint import encode_varint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fluoroscope.calls.exchange import Steps

# The two messages of grpc.health.v1 are so small and so old that the client does without a package for
# them: HealthCheckRequest {string service = 1}, HealthCheckResponse {ServingStatus status = 1, SERVING = 1}.
_SERVING: Final = b"\x08\x01"


def wait_ready(model: str = "", *, timeout: float | None = None) -> Steps[StreamCall[bool, None]]:
    """Waits until the server answers calls, even if it has not started yet.

    Args:
        model: The model to wait for. Empty means the server as a whole.
        timeout: How many seconds to wait. None means what the client was made with.

    Raises:
        DeadlineExceededError: It was not ready in time.
    """
    service = model.encode()
    request = b"\x0a" + encode_varint(len(service)) + service if service else b""
    exchange = Exchange(
        method="/grpc.health.v1.Health/Watch",
        request=request,
        timeout=timeout,
        patience=300.0,
        repeatable=True,
        wait_for_ready=True,
    )
    yield from ()  # no call comes before the stream
    return StreamCall(exchange=exchange, reader=HealthReader())


class HealthReader:
    """Reads the stream of one server's health, up to the first time that it is ready."""

    __slots__ = ()

    def feed(self, message: bytes) -> bool | None:
        """Takes the next message; returns True if it says that the server is ready."""
        return True if message == _SERVING else None

    def finish(self) -> None:
        """Takes note that the stream has ended.

        Raises:
            ServerUnavailableError: It has no end by itself while the server runs.
        """
        raise ServerUnavailableError("the server stopped telling its health before it was ready")

    def progress(self) -> None:
        """Returns nothing: that it was not ready is all there is to know."""

    def collect(self, items: Sequence[bool]) -> None:
        """Returns nothing: that an item came is all there is to know."""
