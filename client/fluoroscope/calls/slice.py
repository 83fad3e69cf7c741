"""A part of one axis of a value."""

from __future__ import annotations

from dataclasses import dataclass

from fluoroscope.v1 import inspection_pb2


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of one axis of a value, like a Python slice with a positive step.

    `Slice(0, 0, 1)` is the first example of the batch; `Slice(-1, 0, 8)` the first eight channels.
    """

    axis: int
    """Which axis to cut, 0 being the outermost; a negative one counts from the last."""

    start: int | None = None
    """The first index to take. None means 0. A negative one counts from the end."""

    stop: int | None = None
    """The index to stop before. None means the end. A negative one counts from the end."""

    step: int | None = None
    """Take each step-th index. None means 1. Must be positive."""

    def message(self) -> inspection_pb2.Slice:
        """Returns the slice as the contract says it."""
        return inspection_pb2.Slice(axis=self.axis, start=self.start, stop=self.stop, step=self.step)
