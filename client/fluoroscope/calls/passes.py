"""What each reduction asks of a data set, pass by pass, and what its answers come to."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from fluoroscope.calls.addition import rows_axis
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
    TopK,
)
from fluoroscope.calls.units import TopElements

if TYPE_CHECKING:
    from collections.abc import Callable

    from fluoroscope.calls.addition import AxisSums, Rows
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
    if site.batch_axis is None:
        return _once(reduction)
    _check(reduction, site)
    if rows_axis(reduction, site) is not None:
        return _rows(reduction)
    passes: Callable[[Any], Passes] = _PASSES.get(type(reduction), _once)
    return passes(reduction)


def _check(reduction: Reduction[Any], site: Site) -> None:
    """Refuses a reduction for which the examples would be units."""
    if isinstance(reduction, DeadUnits | Covariance | Correlation) and site.batch_axis == len(site.shape) - 1:
        raise InvalidRequestError(
            f"{reduction} of {site.path!r} does not add up over a data set: its last axis is the batch; "
            "inspect its batches one by one",
            field="reduce",
        )


def _once(reduction: Reduction[Any]) -> Passes:
    return (yield (reduction,))[reduction]


def _rows(asked: Reduction[Any]) -> Passes:
    """Puts what each batch has for each of its examples one behind the other."""
    found: Rows = (yield (asked,))[asked]
    tensors = found.joined()
    return TopElements(values=tensors[0], indices=tensors[1]) if isinstance(asked, TopK) else tensors[0]


def _histogram(asked: Histogram) -> Passes:
    """Finds the ends of the range in a first pass, if it is not given, and counts in a second."""
    if asked.low is not None and asked.high is not None:
        return (yield (asked,))[asked]
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


def _correlation(_: Correlation) -> Passes:
    """Takes covariances, which add up. What batches cannot tell from no spread at all is none."""
    covariance: SiteCovariance = (yield (Covariance(),))[Covariance()]
    std = np.sqrt(np.diag(covariance.matrix).astype(np.float64))
    std[std <= np.abs(covariance.mean) * _SAME] = 0
    with np.errstate(invalid="ignore", divide="ignore"):
        matrix = np.clip(covariance.matrix / std[:, None] / std[None, :], -1, 1)
    matrix[(std == 0)[:, None] | (std == 0)[None, :]] = np.nan
    return SiteCorrelation(matrix=matrix, mean=covariance.mean, std=std, sample_count=covariance.sample_count)


def _along_axes(asked: Mean | Norm) -> Passes:
    found: AxisSums = (yield (asked,))[asked]
    if isinstance(asked, Mean):
        value = found.sums / found.rows
    else:
        value = found.sums if found.greatest else found.sums ** (1 / asked.order)
    return np.asarray(value)  # of all axes there is one number, and of one NumPy makes a scalar


_PASSES: Mapping[type[Any], Callable[[Any], Passes]] = {
    Histogram: _histogram,
    Quantiles: quantiles,
    Correlation: _correlation,
    Mean: _along_axes,
    Norm: _along_axes,
}
"""The passes of those whose answer is not just the sum of what batches brought."""
