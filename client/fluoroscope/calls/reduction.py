"""What is done on the device to a captured value before it is sent: what one asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from fluoroscope.v1 import inspection_pb2


@dataclass(frozen=True, slots=True)
class Full:
    """The value as it is: comes back as `Activation.array`."""

    def message(self) -> inspection_pb2.Reduction:
        """Returns the reduction as the contract says it."""
        return inspection_pb2.Reduction(full=inspection_pb2.Reduction.Full())


@dataclass(frozen=True, slots=True)
class Statistics:
    """The numbers that describe the value: come back as `Activation.statistics`, in a few bytes."""

    def message(self) -> inspection_pb2.Reduction:
        """Returns the reduction as the contract says it."""
        return inspection_pb2.Reduction(statistics=inspection_pb2.Reduction.Describe())


Reduction: TypeAlias = Full | Statistics
"""Any reduction."""


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
