"""A part of one axis of a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fluoroscope.calls.argument import building, several
from fluoroscope.calls.errors import InvalidRequestError
from fluoroscope.v1 import inspection_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable


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
        """Returns the slice as the contract says it; raises InvalidRequestError if it cannot say it."""
        with building(self, field="slices"):
            return inspection_pb2.Slice(axis=self.axis, start=self.start, stop=self.stop, step=self.step)


def slices_of(slices: Slice | Iterable[Slice]) -> tuple[Slice, ...]:
    """Returns one slice, or several, as a tuple; raises InvalidRequestError if one is none."""
    cuts = several(slices)
    for each in cuts:
        if not isinstance(each, Slice):
            raise InvalidRequestError(
                f"slices hold {each!r}; expected slices such as Slice(0, 0, 1): axis, start, stop", field="slices"
            )
    return cuts


def slice_messages(slices: Slice | Iterable[Slice]) -> list[inspection_pb2.Slice]:
    """Returns one slice, or several, as the contract says them; raises InvalidRequestError if it cannot."""
    return [each.message() for each in slices_of(slices)]
