"""What a request asks to capture, before it meets a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fluoroscope_server.engine.reductions import Full
from fluoroscope_server.errors import InvalidRequestError

if TYPE_CHECKING:
    from fluoroscope_server.engine.reductions import Reduction
    from fluoroscope_server.engine.site import SiteKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A part of one axis, like a Python slice with a positive step."""

    axis: int
    """The axis to cut; negative counts from the last."""

    start: int | None = None
    """The first index; None means 0, negative counts from the end."""

    stop: int | None = None
    """The index to stop before; None means the end, negative counts from the end."""

    step: int = 1
    """Take each step-th index."""

    def axis_of(self, count: int, *, site: str, field: str) -> int:
        """Returns the axis, counted from the first of `count`; raises InvalidRequestError if there is none such."""
        if not -count <= self.axis < count:
            raise InvalidRequestError(
                f"site {site!r} has no axis {self.axis}: it has {count} axes", field=field, reason="SLICE_OUT_OF_RANGE"
            )
        return self.axis % count

    def range_of(self, size: int, *, axis: int, site: str, field: str) -> range:
        """Returns the indices taken from an axis of `size`; raises InvalidRequestError if it has not all of them."""
        start = 0 if self.start is None else self.start + (size if self.start < 0 else 0)
        stop = size if self.stop is None else self.stop + (size if self.stop < 0 else 0)
        if self.step < 1 or not 0 <= start < stop <= size:
            raise InvalidRequestError(
                f"slice {self} does not lie within axis {axis} of site {site!r}, whose size is {size}: "
                "start must be before stop, both within the axis, and step positive",
                field=field,
                reason="SLICE_OUT_OF_RANGE",
            )
        return range(start, stop, self.step)

    def __str__(self) -> str:
        """Returns the slice as Python writes it."""
        ends = ["" if end is None else str(end) for end in (self.start, self.stop)]
        return ":".join([*ends, str(self.step)] if self.step != 1 else ends)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """Which sites to capture, and what to do to the value of each."""

    sites: tuple[str, ...]
    """Names and globs of sites."""

    kinds: tuple[SiteKind, ...] = ()
    """The kinds of site to keep; empty means all."""

    slices: tuple[Slice, ...] = ()
    """How to cut each value first."""

    reductions: tuple[Reduction, ...] = (Full(),)
    """What to compute of each value; each gives one result."""
