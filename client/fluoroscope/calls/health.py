"""The operation that waits until a server can answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fluoroscope.calls.argument import building
from fluoroscope.calls.errors import (
    DeadlineExceededError,
    InvalidRequestError,
    PermissionDeniedError,
    ServerUnavailableError,
    UnauthenticatedError,
)
from fluoroscope.calls.exchange import Exchange
from fluoroscope.wire.varint import encode_varint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fluoroscope.calls.errors import FluoroscopeError
    from fluoroscope.calls.exchange import Steps

# The two messages of grpc.health.v1 are so small and so old that the client does without a package for
# them: HealthCheckRequest {string service = 1}, HealthCheckResponse {ServingStatus status = 1, SERVING = 1,
# SERVICE_UNKNOWN = 3}.
_SERVING: Final = b"\x08\x01"
_UNKNOWN: Final = b"\x08\x03"

_LASTING: Final = (UnauthenticatedError, PermissionDeniedError, InvalidRequestError)
"""What another watch would be answered with, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """A wait until a server is ready: its health is watched, and again when a watch ends before that."""

    exchange: Exchange
    """One watch, and how long all may take together."""

    reader: HealthReader
    """What reads them all."""


def wait_ready(model: str = "", *, timeout: float | None = None) -> Steps[Wait]:
    """Waits until the server answers calls, even if it has not started yet, or drains and will be started again.

    Args:
        model: The model to wait for. Empty means the server as a whole.
        timeout: How many seconds to wait. None means what the client was made with.

    Raises:
        DeadlineExceededError: It was not ready in time; the message says what was last heard of it.
        UnauthenticatedError, PermissionDeniedError, InvalidRequestError: Waiting would not help.
        ServerError: At the address is another kind of server, which tells nothing of its health.
    """
    with building():
        service = model.encode()
    request = b"\x0a" + encode_varint(len(service)) + service if service else b""
    exchange = Exchange(
        method="/grpc.health.v1.Health/Watch",
        request=request,
        timeout=timeout,
        patience=300.0,
        repeatable=False,  # the wait itself makes it again, however often that takes
        wait_for_ready=True,
    )
    yield from ()  # no call comes before the stream
    return Wait(exchange=exchange, reader=HealthReader(model))


class HealthReader:
    """Reads what is told of the health of a server or a model, up to the first time that it is ready."""

    __slots__ = ("_last", "_model")

    def __init__(self, model: str) -> None:
        self._model = model
        self._last = "no connection came about; is a server there?"

    def feed(self, message: bytes) -> bool | None:
        """Takes the next message; returns True if it says that the server is ready."""
        if message == _SERVING:
            return True
        self._last = (
            "the server does not know it; models() lists those that it has"
            if message == _UNKNOWN
            else "it was not ready when last heard of; give a longer timeout="
        )
        return None

    def finish(self) -> None:
        """Takes note that the stream has ended.

        Raises:
            ServerUnavailableError: It has no end by itself while the server runs.
        """
        raise ServerUnavailableError(
            "the server stopped telling its health before it was ready, as one that drains does"
        )

    def failure(self, error: FluoroscopeError, *, target: str) -> FluoroscopeError | None:
        """Takes note of how a watch ended; returns what to raise, or None if another one may end otherwise.

        Args:
            error: What the watch raised.
            target: The address that was called.
        """
        if isinstance(error, DeadlineExceededError):
            what = f"model {self._model!r} of the server" if self._model else "the server"
            return DeadlineExceededError(f"{what} at {target} was not ready in time: {self._last}", reason=error.reason)
        if isinstance(error, _LASTING) or error.reason == "UNIMPLEMENTED":
            return error
        self._last = error.message
        return None

    def progress(self) -> None:
        """Returns nothing: that it was not ready is all there is to know."""

    def collect(self, items: Sequence[bool]) -> None:
        """Returns nothing: that an item came is all there is to know."""
