"""The stages of a request, and the time each took."""

from __future__ import annotations

import time


class StageClock:
    """Measures the stages of one request, one after the other, on whatever thread it is at the time."""

    __slots__ = ("_last", "started", "times")

    def __init__(self) -> None:
        """Starts the clock."""
        self.started = self._last = time.perf_counter()
        self.times: list[tuple[str, float]] = []

    def lap(self, stage: str) -> None:
        """Ends a stage: the time since the last one ended is its time."""
        now = time.perf_counter()
        self.times.append((stage, now - self._last))
        self._last = now

    def join(self, batch: StageClock) -> None:
        """Takes over what was measured for the whole batch that the request was a part of."""
        self.times += batch.times
        self._last = batch._last

    def elapsed(self) -> float:
        """Returns the seconds since the clock was started."""
        return time.perf_counter() - self.started
