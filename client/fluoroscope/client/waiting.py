"""The wait for a server that is not ready yet: the same for both faces of the client."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import TYPE_CHECKING, final

from fluoroscope.calls import StreamCall
from fluoroscope.client.attempts import FIRST_PAUSE, LONGEST_PAUSE

if TYPE_CHECKING:
    from fluoroscope.calls import FluoroscopeError, Wait
    from fluoroscope.client.channel import Destination


@final
class Waiting:
    """Says what to watch, and when to watch again, as long as the time lasts."""

    __slots__ = ("_attempts", "_most", "_target", "_wait")

    def __init__(self, wait: Wait, destination: Destination) -> None:
        """Takes what to wait for, and where; the time begins."""
        self._wait = wait
        self._target = destination.target
        self._attempts = destination.attempts(wait.exchange)
        self._most = FIRST_PAUSE

    def watch(self) -> StreamCall[bool, None]:
        """Returns the next watch, which may take all the time that is left."""
        left = max(self._left(), 1e-9)  # a call must be given some time; this is over before it is sent
        return StreamCall(exchange=replace(self._wait.exchange, timeout=left), reader=self._wait.reader)

    def pause(self, error: FluoroscopeError) -> float:
        """Returns how many seconds to wait after a watch that ended with an error.

        Raises:
            DeadlineExceededError: No time is left.
            FluoroscopeError: It is the error itself: no other watch would end otherwise.
        """
        failure = self._wait.reader.failure(error, target=self._target)
        if failure is not None:
            raise failure from error.__cause__
        seconds = max(random.uniform(self._most / 2, self._most), error.retry_after or 0.0)  # noqa: S311  # no secret
        self._most = min(2 * self._most, LONGEST_PAUSE)
        return min(seconds, self._left())

    def _left(self) -> float:
        left = self._attempts.terms()["timeout"]
        return math.inf if left is None else left
