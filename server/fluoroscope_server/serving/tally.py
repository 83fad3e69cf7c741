"""The tally: how often one version of a model was called, and how long the parts of the calls took."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fluoroscope_server.serving.stages import StageClock


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
class Tally:
    """Counts calls on the event loop, and executions wherever they run. Grows only."""

    success: Total = field(default_factory=Total)
    """Calls that were answered."""

    failure: Total = field(default_factory=Total)
    """Calls that failed."""

    stages: dict[str, Total] = field(default_factory=dict)
    """The stages of the calls that were answered, by name."""

    rows: int = 0
    """The rows of the calls that were answered."""

    executions: int = 0
    """The batches that were run."""

    last: float = 0.0
    """When a call was answered last, in seconds since 1970; 0: never."""

    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answered(self, rows: int, clock: StageClock) -> None:
        """Counts a call that was answered."""
        self.success.add(clock.elapsed())
        self.rows += rows
        self.last = datetime.now(UTC).timestamp()
        stages = self.stages
        for stage, seconds in clock.times:
            total = stages.get(stage)
            if total is None:
                total = stages[stage] = Total()
            total.add(seconds)

    def failed(self, clock: StageClock) -> None:
        """Counts a call that failed."""
        self.failure.add(clock.elapsed())

    def executed(self) -> None:
        """Counts a batch that was run."""
        with self._lock:
            self.executions += 1

    def total(self, stage: str) -> Total:
        """Returns the total of one stage."""
        return self.stages.get(stage, Total())
