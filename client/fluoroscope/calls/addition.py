"""What a reduction brought of one batch, as something that adds up over batches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from fluoroscope.calls.reduction import Full, Mean, Norm, TopK

if TYPE_CHECKING:
    from fluoroscope.calls.reduction import Reduction
    from fluoroscope.calls.site import Site


class Addable(Protocol):
    """What adds up over batches."""

    def __add__(self, other: Self, /) -> Self:
        """Returns that of both together."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AxisSums:
    """What is left of a value after a mean or a norm along axes of which the batch is one."""

    sums: np.ndarray
    """Sums over all examples, float64: of elements, or of powers of magnitudes; or the greatest magnitudes."""

    rows: int
    """How many examples they are of."""

    greatest: bool = False
    """Whether they are greatest magnitudes."""

    def __add__(self, other: AxisSums) -> AxisSums:
        """Returns those of both together."""
        sums = np.maximum(self.sums, other.sums) if self.greatest else self.sums + other.sums
        return AxisSums(sums=sums, rows=self.rows + other.rows, greatest=self.greatest)


@dataclass(slots=True, kw_only=True, eq=False)
class Rows:
    """Tensors that have something for each example: those of the batches, one behind the other."""

    axis: int
    """Which axis of each tensor is the batch."""

    parts: list[tuple[np.ndarray, ...]]
    """The tensors of each batch, in order."""

    byte_size: int
    """How many bytes they have together."""

    @classmethod
    def of(cls, *tensors: np.ndarray, axis: int) -> Rows:
        """Returns the tensors of one batch."""
        return cls(axis=axis, parts=[tensors], byte_size=sum(each.nbytes for each in tensors))

    def __add__(self, other: Rows) -> Rows:
        """Returns those of both, one behind the other."""
        return Rows(axis=self.axis, parts=self.parts + other.parts, byte_size=self.byte_size + other.byte_size)

    def __iadd__(self, other: Rows) -> Self:
        """Puts others behind these: many batches would take long if each time a new list was made."""
        self.parts += other.parts
        self.byte_size += other.byte_size
        return self

    def joined(self) -> tuple[np.ndarray, ...]:
        """Returns the tensors of all examples."""
        return tuple(np.concatenate(tensors, self.axis) for tensors in zip(*self.parts, strict=True))


def rows_axis(reduction: Reduction[Any], site: Site) -> int | None:
    """Returns which axis of the tensors of a result are the examples; None if the result is one for all of them."""
    axis, count = site.batch_axis, len(site.shape)
    match reduction:
        case Full() | TopK():
            return axis
        case Mean(axes=axes) | Norm(axes=axes) if axis is not None:
            gone = {each % count for each in ((axes,) if isinstance(axes, int) else axes)} or set(range(count))
            return None if axis in gone else axis - sum(each < axis for each in gone)
    return None


def addable(reduction: Reduction[Any], result: Any, *, rows: int, axis: int | None) -> Addable:
    """Returns what a reduction brought of a batch of so many examples as something that adds up.

    `axis` is what `rows_axis` says of it.
    """
    match reduction:
        case TopK() if axis is not None:
            return Rows.of(result.values, result.indices, axis=axis)
        case _ if axis is not None:
            return Rows.of(result, axis=axis)
        case Mean():
            return AxisSums(sums=result.astype(np.float64) * rows, rows=rows)
        case Norm(order=math.inf):
            return AxisSums(sums=result.astype(np.float64), rows=rows, greatest=True)
        case Norm():
            return AxisSums(sums=result.astype(np.float64) ** reduction.order, rows=rows)
    found: Addable = result
    return found
