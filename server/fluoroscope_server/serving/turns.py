"""Turns: what the device does next, of all that waits for it."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Generic, TypeVar

from fluoroscope_server.serving.round_robin import RoundRobin

if TYPE_CHECKING:
    from collections.abc import Hashable

T = TypeVar("T")

SHARE = 0.1
"""Which part of the time that predictions take inspections get beside it, however many predictions wait."""

FIRST_STAGE_SECONDS = 0.01
"""How long a stage of an inspection is thought to take before one was measured."""


class Turn(enum.Enum):
    """What a piece of work is a part of."""

    PREDICTION = "prediction"
    """A batch of predictions: it goes first."""

    INSPECTION = "inspection"
    """A stage of an inspection: it goes when no prediction waits, or when they have had enough."""


class Turns(Generic[T]):
    """Who is next. Holds no lock and reads no clock.

    Predictions go before inspections. So that inspections do not starve, the time that predictions took while some
    waited is added up, and when `SHARE` of it is as much as the last stage took, a stage goes before them. Within a
    kind, keys take turns. Only so many inspections are under way at once: the other threads are for predictions.
    """

    def __init__(self, *, most_inspections: int) -> None:
        """Begins with nothing that waits, or is under way.

        Args:
            most_inspections: how many stages of inspections may be under way at once.
        """
        self._waiting = {turn: RoundRobin[T]() for turn in Turn}
        self._most_inspections = most_inspections
        self._inspecting = 0
        self._owed = 0.0
        self._stage_seconds = FIRST_STAGE_SECONDS

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def push(self, turn: Turn, key: Hashable, item: T) -> None:
        """Adds work that waits."""
        self._waiting[turn].push(key, item)

    def pop(self) -> tuple[Turn, T] | None:
        """Takes what is next; None if nothing waits, or only inspections while as many as may be are under way."""
        turn = self._next()
        if turn is None:
            return None
        if turn is Turn.INSPECTION:
            self._inspecting += 1
        return turn, self._waiting[turn].pop()

    def end(self, turn: Turn, seconds: float | None) -> None:
        """Says that work which was taken has ended, and how long it took; None if it was not begun after all."""
        others_wait = bool(self._waiting[Turn.PREDICTION if turn is Turn.INSPECTION else Turn.INSPECTION])
        if turn is Turn.INSPECTION:
            self._inspecting -= 1
        if seconds is None:
            return
        if turn is Turn.INSPECTION:
            self._stage_seconds = seconds
            self._owed -= seconds if others_wait else 0.0
        elif others_wait or self._owed < 0:
            self._owed += SHARE * seconds

    def _next(self) -> Turn | None:
        inspections = self._waiting[Turn.INSPECTION] and self._inspecting < self._most_inspections
        if not self._waiting[Turn.PREDICTION]:
            return Turn.INSPECTION if inspections else None
        return Turn.INSPECTION if inspections and self._owed >= self._stage_seconds else Turn.PREDICTION
