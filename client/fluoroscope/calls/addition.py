"""What a reduction brought of one batch, as something that adds up over batches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from fluoroscope.calls.reduction import Mean, Norm

if TYPE_CHECKING:
    from fluoroscope.calls.reduction import Reduction


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


def addable(reduction: Reduction[Any], result: Any, *, rows: int) -> Addable:
    """Returns what a reduction brought of a batch of so many examples as something that adds up."""
    match reduction:
        case Mean():
            return AxisSums(sums=result.astype(np.float64) * rows, rows=rows)
        case Norm(order=math.inf):
            return AxisSums(sums=result.astype(np.float64), rows=rows, greatest=True)
        case Norm():
            return AxisSums(sums=result.astype(np.float64) ** reduction.order, rows=rows)
    found: Addable = result
    return found
