"""Admission: which calls may begin, so that no crowd and no single client can take the server from the others."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fluoroscope_server.errors import LimitExceededError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fluoroscope_server.settings import Settings

SOON = 0.1
"""About how many seconds to wait before a call that was refused is made again."""

STREAM_SOON = 1.0
"""The same where streams have to end first, or the compiler has to."""


@dataclass(slots=True)
class _Open:
    """What one client, or all of them together, have open."""

    calls: int = 0
    streams: int = 0


class Admission:
    """Counts the calls that are open, and refuses those that would be too many. Belongs to the event loop.

    Costs a microsecond: every `Predict` passes here.
    """

    def __init__(self, settings: Settings) -> None:
        """Takes the limits; nothing is open yet."""
        self._settings = settings
        self._all = _Open()
        self._clients: dict[str, _Open] = {}
        self._watches: Counter[str] = Counter()
        self._bytes = 0
        self._closed = False
        self._emptied = asyncio.Event()

    @property
    def open_bytes(self) -> int:
        """How many bytes the requests of all open calls have, and the answers that are put together."""
        return self._bytes

    @property
    def clients(self) -> int:
        """How many clients have a call open."""
        return len(self._clients)

    def enter(self, client: str, *, size: int, streams: bool) -> None:
        """Lets a call begin; whoever was let in must `leave` with the same words.

        Args:
            client: who calls.
            size: how many bytes the request has.
            streams: whether its answer is a stream.

        Raises:
            LimitExceededError: too much is open; the message names the limit.
            UnavailableError: the server drains.
        """
        limits, everyone = self._settings, self._all
        if self._closed:
            raise UnavailableError("the server is draining: it ends soon, ask another one", reason="DRAINING")
        self._check_size(size)
        mine = self._clients.get(client)
        if everyone.calls >= limits.max_calls:
            raise _busy("calls", everyone.calls, "max-calls", reason="CALLS_BUSY")
        if mine is not None and mine.calls >= limits.max_calls_per_client:
            raise _busy("calls of this client", mine.calls, "max-calls-per-client", reason="CLIENT_CALLS_BUSY")
        if streams:
            self._check_streams(mine)
        self._check_bytes(size)
        if mine is None:
            mine = self._clients[client] = _Open()
        mine.calls += 1
        everyone.calls += 1
        self._bytes += size
        if streams:
            mine.streams += 1
            everyone.streams += 1

    def leave(self, client: str, *, size: int, streams: bool) -> None:
        """Ends a call that was let in."""
        mine = self._clients[client]
        mine.calls -= 1
        self._all.calls -= 1
        self._bytes -= size
        if streams:
            mine.streams -= 1
            self._all.streams -= 1
        self._forget(client)
        if self._closed and not self._all.calls:
            self._emptied.set()

    @contextlib.contextmanager
    def message(self, size: int) -> Iterator[None]:
        """Counts one request of a call that was let in and brings many, for as long as it is answered.

        Args:
            size: how many bytes it has.

        Raises:
            LimitExceededError: it is too large, or too much is open; the message names the limit.
        """
        self._check_size(size)
        self._check_bytes(size)
        with self._holding(size):
            yield

    @contextlib.contextmanager
    def inspection(self, client: str) -> Iterator[None]:
        """Counts a call that was let in, and whose answer is one message, among those that inspect.

        Args:
            client: who calls.

        Raises:
            LimitExceededError: too many inspections are open; the message names the limit.
        """
        mine = self._clients[client]
        self._check_streams(mine)
        mine.streams += 1
        self._all.streams += 1
        try:
            yield
        finally:
            mine.streams -= 1
            self._all.streams -= 1
            self._forget(client)

    @contextlib.contextmanager
    def answer(self, size: int, *, request: int) -> Iterator[None]:
        """Counts an answer that is put together to be one message among the bytes of what is being answered.

        Args:
            size: how many bytes it has.
            request: how many the request has, which are counted already.

        Raises:
            LimitExceededError: too much is open; the message names the limit.
        """
        others, limit = self._bytes - request, self._settings.max_open_bytes
        if others and others + size > limit:
            raise LimitExceededError(
                f"this answer would have {size:,} bytes, other calls have {others:,}, and the limit for all is "
                f"{limit:,} (max-open-mib): ask again soon, or by InspectActivations, which holds less",
                reason="REQUEST_BYTES_BUSY",
                retry_after=soon(STREAM_SOON),
            )
        with self._holding(size):
            yield

    @contextlib.contextmanager
    def watch(self, client: str) -> Iterator[None]:
        """Counts a stream that is let in whatever calls are open, and also by a server that drains.

        Args:
            client: who watches.

        Raises:
            LimitExceededError: too many watch already; the message names the limit.
        """
        watches, limits = self._watches, self._settings
        everyone, mine = watches.total(), watches[client]
        if everyone >= limits.max_watches:
            raise _busy("watches", everyone, "max-watches", reason="WATCHES_BUSY", wait=STREAM_SOON)
        if mine >= limits.max_watches_per_client:
            raise _busy(
                "watches of this client",
                mine,
                "max-watches-per-client",
                reason="CLIENT_WATCHES_BUSY",
                wait=STREAM_SOON,
            )
        watches[client] += 1
        try:
            yield
        finally:
            watches[client] -= 1
            if not watches[client]:
                del watches[client]

    def close(self) -> None:
        """Lets no call begin any more."""
        self._closed = True
        if not self._all.calls:
            self._emptied.set()

    async def emptied(self, within: float) -> bool:
        """Waits until all calls have ended, after `close`; returns whether they have within so many seconds."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._emptied.wait(), within)
        return self._emptied.is_set()

    @contextlib.contextmanager
    def _holding(self, size: int) -> Iterator[None]:
        self._bytes += size
        try:
            yield
        finally:
            self._bytes -= size

    def _forget(self, client: str) -> None:
        mine = self._clients[client]
        if not mine.calls and not mine.streams:
            del self._clients[client]

    def _check_size(self, size: int) -> None:
        limit = self._settings.max_request_bytes
        if size > limit:  # gRPC lets in up to twice as much: its own refusal has no reason
            raise LimitExceededError(
                f"this request has {size:,} bytes, and the limit is {limit:,} (max-request-mib): send it in parts",
                reason="REQUEST_TOO_LARGE",
            )

    def _check_bytes(self, size: int) -> None:
        limit = self._settings.max_open_bytes
        if self._bytes and self._bytes + size > limit:  # one is let in, however large
            raise LimitExceededError(
                f"this request has {size:,} bytes, those that are being answered have {self._bytes:,}, and the limit "
                f"for all is {limit:,} (max-open-mib): ask again soon",
                reason="REQUEST_BYTES_BUSY",
                retry_after=soon(SOON),
            )

    def _check_streams(self, mine: _Open | None) -> None:
        limits, everyone = self._settings, self._all
        if everyone.streams >= limits.max_streams:
            raise _busy("streams", everyone.streams, "max-streams", reason="STREAMS_BUSY", wait=STREAM_SOON)
        if mine is not None and mine.streams >= limits.max_streams_per_client:
            raise _busy(
                "streams of this client",
                mine.streams,
                "max-streams-per-client",
                reason="CLIENT_STREAMS_BUSY",
                wait=STREAM_SOON,
            )


def soon(seconds: float) -> float:
    """Returns about so many seconds: who was refused at once with others must not come back at once with them."""
    return seconds * random.uniform(0.5, 1.5)  # noqa: S311 (no secret)


def _busy(what: str, count: int, limit: str, *, reason: str, wait: float = SOON) -> LimitExceededError:
    return LimitExceededError(
        f"{count:,} {what} are open, and that is the limit ({limit}): ask again when some have ended",
        reason=reason,
        retry_after=soon(wait),
    )
