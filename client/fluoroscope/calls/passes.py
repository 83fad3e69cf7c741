"""What each reduction asks of a data set, pass by pass, and what its answers come to."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from fluoroscope.calls.covariance import SiteCorrelation
from fluoroscope.calls.errors import InvalidRequestError
from fluoroscope.calls.order_statistics import quantiles
from fluoroscope.calls.reduction import (
    Correlation,
    Covariance,
    DeadUnits,
    Histogram,
    Mean,
    Norm,
    Quantiles,
    Reduction,
    Statistics,
)

if TYPE_CHECKING:
    from fluoroscope.calls.addition import AxisSums
    from fluoroscope.calls.covariance import SiteCovariance
    from fluoroscope.calls.histogram import SiteHistogram
    from fluoroscope.calls.site import Site
    from fluoroscope.calls.statistics import SiteStatistics

Sums: TypeAlias = Mapping[Reduction[Any], Any]
"""What came of all batches together, by what was asked."""

Passes: TypeAlias = Generator[Sequence[Reduction[Any]], Sums, Any]
"""Yields what to ask of each batch in a pass over the data set, takes what came together, returns the result."""

_MOST = np.finfo(np.float32).max
_ROOM = np.float32(2**-12)
_SAME = 2**-21


def passes_of(reduction: Reduction[Any], site: Site) -> Passes:
    """Returns the passes of one reduction of one site.

    Raises:
        InvalidRequestError: What it brings of several batches does not come to what it brings of one.
    """
    axis = site.batch_axis
    if axis is not None:
        _check(reduction, site, axis)
    match reduction:
        case Histogram(low=None) | Histogram(high=None) if axis is not None:
            return _histogram(reduction)
        case Quantiles() if axis is not None:
            return quantiles(reduction)
        case Correlation() if axis is not None:
            return _correlation()
        case Mean() if axis is not None:
            return _mean(reduction)
        case Norm() if axis is not None:
            return _norm(reduction)
    return _once(reduction)


def _check(reduction: Reduction[Any], site: Site, axis: int) -> None:
    """Refuses a reduction that gives something for each example, or for whom examples are units."""
    name = f"{reduction} of {site.path!r}"
    advice = "inspect its batches one by one"
    match reduction:
        case Mean(axes=axes) | Norm(axes=axes):
            reduced = (axes,) if isinstance(axes, int) else axes
            if reduced and not {axis, axis - len(site.shape)} & set(reduced):
                raise _unfit(
                    f"{name} is one for each example of the data set: add the batch axis, {axis}, to its axes, "
                    f"or {advice}"
                )
        case DeadUnits() | Covariance() | Correlation():
            if axis == len(site.shape) - 1:
                raise _unfit(f"{name} does not add up over a data set: its last axis is the batch; {advice}")
        case Statistics() | Histogram() | Quantiles():
            pass
        case _:
            raise _unfit(f"{name} is one for each example of the data set and does not add up: {advice}")


def _unfit(message: str) -> InvalidRequestError:
    return InvalidRequestError(message, field="reduce")


def _once(reduction: Reduction[Any]) -> Passes:
    return (yield (reduction,))[reduction]


def _histogram(asked: Histogram) -> Passes:
    """Finds the ends of the range in a first pass, and counts in a second."""
    statistics: SiteStatistics = (yield (Statistics(),))[Statistics()]
    low, high = range_of(asked, statistics)
    ranged = Histogram(bins=asked.bins, low=low, high=high)
    found: SiteHistogram = (yield (ranged,))[ranged]
    if statistics.finite_count:
        return found
    low, high = (math.nan if end is None else end for end in (asked.low, asked.high))
    return replace(found, low=low, high=high)


def range_of(asked: Histogram, statistics: SiteStatistics) -> tuple[float, float]:
    """Returns the range of a histogram of elements with these statistics, as the server would find it in float32.

    Where it would have no width, an end that is to be found is moved. Without a finite element any range will do.
    """
    least, greatest = (statistics.min, statistics.max) if statistics.finite_count else (0.0, 0.0)
    low = np.float32(least if asked.low is None else asked.low)
    high = np.float32(greatest if asked.high is None else asked.high)
    if low >= high:
        anchor = low if asked.high is None else high
        least_room = np.float32(0.5 if asked.low is None and asked.high is None else 1.0)
        room = max(least_room, abs(anchor) * _ROOM)
        low = max(anchor - room, -_MOST) if asked.low is None else low
        high = min(anchor + room, _MOST) if asked.high is None else high
    return float(low), float(high)


def _correlation() -> Passes:
    """Takes covariances, which add up. What batches cannot tell from no spread at all is none."""
    covariance: SiteCovariance = (yield (Covariance(),))[Covariance()]
    std = np.sqrt(np.diag(covariance.matrix).astype(np.float64))
    std[std <= np.abs(covariance.mean) * _SAME] = 0
    with np.errstate(invalid="ignore", divide="ignore"):
        matrix = np.clip(covariance.matrix / std[:, None] / std[None, :], -1, 1)
    matrix[(std == 0)[:, None] | (std == 0)[None, :]] = np.nan
    return SiteCorrelation(matrix=matrix, mean=covariance.mean, std=std, sample_count=covariance.sample_count)


def _mean(asked: Mean) -> Passes:
    found: AxisSums = (yield (asked,))[asked]
    return found.sums / found.rows


def _norm(asked: Norm) -> Passes:
    found: AxisSums = (yield (asked,))[asked]
    return found.sums if found.greatest else found.sums ** (1 / asked.order)
