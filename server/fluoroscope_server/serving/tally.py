"""The tally: how often one version of a model was called, and how long the parts of the calls took."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fluoroscope_server.serving.stages import StageClock

TOGETHER = 256
"""How many calls are added up together: one by one, each would wait for it."""


@dataclass(slots=True)
class Total:
    """How often something happened, and how long it took altogether."""

    count: int = 0
    """How often."""

    seconds: float = 0.0
    """How long."""

    def add(self, seconds: float) -> None:
        """Counts one more."""
        self.count += 1
        self.seconds += seconds


@dataclass(slots=True)
class Sums:
    """What a tally has counted. Grows only."""

    success: Total = field(default_factory=Total)
    """Calls that were answered."""

    failure: Total = field(default_factory=Total)
    """Calls that failed, or were refused."""

    stages: dict[str, Total] = field(default_factory=dict)
    """The stages of the calls that were answered, by name."""

    rows: int = 0
    """The rows of the calls that were answered."""

    executions: int = 0
    """The batches that were run."""

    last: float = 0.0
    """When a call was answered last, in seconds since 1970; 0: never."""

    def stage(self, name: str) -> Total:
        """Returns the total of one stage."""
        return self.stages.setdefault(name, Total())


class Tally:
    """Counts calls on the event loop, and executions wherever they run."""

    def __init__(self) -> None:
        """Begins with nothing."""
        self._sums = Sums()
        self._answered: list[tuple[int, StageClock, float]] = []
        self._lock = threading.Lock()

    def answered(self, rows: int, clock: StageClock) -> None:
        """Counts a call that was answered."""
        self._answered.append((rows, clock, time.perf_counter() - clock.started))
        if len(self._answered) >= TOGETHER:
            self.sums()

    def failed(self, clock: StageClock) -> None:
        """Counts a call that failed."""
        self._sums.failure.add(clock.elapsed())

    @contextlib.contextmanager
    def counting_failure(self, clock: StageClock) -> Iterator[None]:
        """Counts a call that fails in the context. One that is given up has failed, too."""
        try:
            yield
        except BaseException:
            self.failed(clock)
            raise

    def executed(self) -> None:
        """Counts a batch that was run."""
        with self._lock:
            self._sums.executions += 1

    def sums(self) -> Sums:
        """Returns all that was counted."""
        sums = self._sums
        for rows, clock, seconds in self._answered:
            sums.success.add(seconds)
            sums.rows += rows
            for stage, taken in clock.times:
                sums.stage(stage).add(taken)
        if self._answered:
            _, clock, seconds = self._answered[-1]
            ago = time.perf_counter() - (clock.started + seconds)
            sums.last = datetime.now(UTC).timestamp() - ago
            self._answered.clear()
        return sums
