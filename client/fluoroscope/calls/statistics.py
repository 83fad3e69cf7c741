"""The numbers that describe a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fluoroscope.v1 import inspection_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteStatistics:
    """Statistics of the value at one site, computed in float32 on the device.

    NaN and infinite elements are counted, and left out of everything else. With no finite element,
    `mean`, `std`, `min`, `max` and `abs_max` are NaN.
    """

    count: int
    """How many elements the value has."""

    mean: float
    """The mean of the finite elements."""

    std: float
    """The population standard deviation of the finite elements (divided by n)."""

    min: float
    """The least finite element."""

    max: float
    """The greatest finite element."""

    abs_max: float
    """The greatest magnitude of the finite elements."""

    l2_norm: float
    """The Euclidean norm of the finite elements."""

    zero_count: int
    """How many elements are zero."""

    nan_count: int
    """How many elements are NaN."""

    inf_count: int
    """How many elements are infinite."""

    @property
    def var(self) -> float:
        """Returns the population variance of the finite elements."""
        return self.std**2

    @property
    def zero_fraction(self) -> float:
        """Returns the share of elements that are zero, from 0 to 1; NaN if there are no elements."""
        return self.zero_count / self.count if self.count else float("nan")

    @classmethod
    def from_wire(cls, message: inspection_pb2.Statistics) -> SiteStatistics:
        """Returns the statistics of a message."""
        return cls(
            count=message.count,
            mean=message.mean,
            std=message.std,
            min=message.min,
            max=message.max,
            abs_max=message.abs_max,
            l2_norm=message.l2_norm,
            zero_count=message.zero_count,
            nan_count=message.nan_count,
            inf_count=message.inf_count,
        )
