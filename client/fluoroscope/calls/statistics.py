"""The numbers that describe a value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from fluoroscope.v1 import inspection_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteStatistics:
    """Statistics of the value at one site, computed in float32 on the device.

    NaN and infinite elements are counted, and left out of everything else. With no finite element,
    `mean`, `std`, `min`, `max` and `abs_max` are NaN.

    Those of several batches add up: `sum(batches[1:], batches[0])` is of the whole data set.
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

    def __add__(self, other: SiteStatistics) -> SiteStatistics:
        """Returns the statistics of both together, of different elements of the same site, computed in float64.

        Counts and ends are exact. Mean and standard deviation go by the formula of Chan, Golub and LeVeque, "Updating
        formulae and a pairwise algorithm for computing sample variances" (1979).
        """
        mean, std = _moments(self, other)
        return SiteStatistics(
            count=self.count + other.count,
            mean=mean,
            std=std,
            min=_known(min, self.min, other.min),
            max=_known(max, self.max, other.max),
            abs_max=_known(max, self.abs_max, other.abs_max),
            l2_norm=math.hypot(self.l2_norm, other.l2_norm),
            zero_count=self.zero_count + other.zero_count,
            nan_count=self.nan_count + other.nan_count,
            inf_count=self.inf_count + other.inf_count,
        )

    @property
    def finite_count(self) -> int:
        """Returns how many elements are finite."""
        return self.count - self.nan_count - self.inf_count

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


def _moments(one: SiteStatistics, other: SiteStatistics) -> tuple[float, float]:
    """Returns the mean and the standard deviation of both together."""
    count = one.finite_count + other.finite_count
    if one.finite_count == 0 or other.finite_count == 0:
        some = one if one.finite_count else other
        return some.mean, some.std
    mine, theirs = one.finite_count / count, other.finite_count / count
    apart = other.mean - one.mean
    var = mine * one.var + theirs * other.var + mine * theirs * apart**2
    return one.mean + theirs * apart, math.sqrt(var)


def _known(which: Callable[[float, float], float], one: float, other: float) -> float:
    """Returns the lesser or the greater of two numbers; NaN stands for one that is not there."""
    if math.isnan(one) or math.isnan(other):
        return other if math.isnan(one) else one
    return which(one, other)
