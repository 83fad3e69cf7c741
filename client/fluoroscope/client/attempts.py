"""The attempts that one call is given: when it is made again, and when not."""

from __future__ import annotations

import math
import random
import time
from numbers import Real
from typing import TYPE_CHECKING, Any, Final, TypedDict, final

import grpc

from fluoroscope.calls import InvalidRequestError, pushback_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from fluoroscope.calls import Exchange

FIRST_PAUSE: Final = 0.1
"""How many seconds lie, at most, between the first attempt and the second."""

LONGEST_PAUSE: Final = 5.0
"""How many seconds lie, at most, between two attempts, if the server does not ask for more."""

ENDLESS: Final = 3e9
"""From how many seconds on, about a century, gRPC is asked to wait as long as it takes: its clock has no more room."""


class Terms(TypedDict):
    """On which terms an attempt is made: the arguments of gRPC beside the request."""

    timeout: float | None
    """How many seconds it may take."""

    metadata: tuple[tuple[str, str], ...]
    """What goes with it."""

    wait_for_ready: bool
    """Whether to wait for a server where there is none yet."""


@final
class Attempts:
    """Counts the attempts of one call, and the time that is left to them all.

    A call is made again only if that is safe, if nothing of its answer has come, and if the server may answer next
    time: it was not reached, it cannot answer now, or it is too busy and says when to come again. That a limit was
    reached, without a word of when, is no passing trouble. gRPC's own retries cannot tell the two apart, give up on
    requests above a size, and stop at five attempts.
    """

    __slots__ = ("_clock", "_end", "_exchange", "_left", "_metadata", "_pauses", "_spread", "answering", "paused")

    def __init__(
        self,
        exchange: Exchange,
        *,
        timeout: float,
        retries: int,
        metadata: tuple[tuple[str, str], ...],
        clock: Callable[[], float] = time.monotonic,
        spread: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """Takes the call, how many seconds it may take in all, and how often it may be made again."""
        self._exchange = exchange
        self._metadata = metadata
        self._clock = clock
        self._spread = spread
        self._end = clock() + _seconds(timeout)
        self._left = retries if exchange.repeatable else 0
        self._pauses = 0
        self.answering = False
        """Whether something of the answer has come."""
        self.paused = False
        """Whether one has failed, and another follows."""

    def terms(self) -> Terms:
        """Returns on which terms the next attempt is made."""
        left = self._end - self._clock()
        return {
            "timeout": None if left >= ENDLESS else max(left, 0.0),
            "metadata": self._metadata,
            "wait_for_ready": self._exchange.wait_for_ready,
        }

    def pause(self, error: grpc.RpcError) -> float | None:
        """Returns how many seconds to wait before the next attempt; None if there shall be none."""
        pushback = pushback_of(error)
        if not self._left or self.answering or not _may_pass(error.code(), pushback):
            return None
        self._left -= 1
        self.paused = True
        seconds = self._backoff() if pushback is None else pushback * self._spread(1.0, 1.1)
        return seconds if seconds < self._end - self._clock() else None

    def _backoff(self) -> float:
        """Returns the next pause: each is at most twice the last, and so long that not all come at once."""
        most = min(FIRST_PAUSE * 2.0 ** min(self._pauses, 64), LONGEST_PAUSE)
        self._pauses += 1
        return self._spread(most / 2, most)


def _seconds(timeout: float) -> float:
    """Returns a timeout as a float of Python: NumPy's may be narrow, and whole numbers larger than any."""
    try:
        return float(timeout)
    except OverflowError:
        return math.inf


def check_timeout(timeout: Any) -> None:
    """Refuses a timeout that is no time.

    Raises:
        InvalidRequestError: It is neither more than no second, nor None.
    """
    is_number = isinstance(timeout, Real)
    if timeout is not None and not (is_number and timeout > 0):
        raise InvalidRequestError(
            f"timeout is {timeout!r}; expected more than 0 seconds: math.inf is as long as it takes, and None what is "
            "usual",
            field="timeout",
        )


def _may_pass(code: grpc.StatusCode, pushback: float | None) -> bool:
    """Returns whether the next attempt may have an answer; by negative pushback, the server says that it will not."""
    if code is grpc.StatusCode.UNAVAILABLE:
        return pushback is None or pushback >= 0
    return code is grpc.StatusCode.RESOURCE_EXHAUSTED and pushback is not None and pushback >= 0
