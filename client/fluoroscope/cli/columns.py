"""What a table says of the result of each reduction."""

from __future__ import annotations

import sys
from functools import singledispatch
from typing import TYPE_CHECKING

import numpy as np

from fluoroscope.calls import (
    SiteCorrelation,
    SiteCovariance,
    SiteDeadUnits,
    SiteHistogram,
    SiteQuantiles,
    SiteStatistics,
    TopElements,
)
from fluoroscope.cli.describe import describe
from fluoroscope.cli.table import STATISTICS, shape_cell, statistics_cells

if TYPE_CHECKING:
    from collections.abc import Iterable

WORDS = frozenset({"dtype", "shape", "histogram", "result", "greatest", "which", "strongest pair"})
"""The columns that are no numbers."""

_BARS = 40
_BLOCKS = " ▁▂▃▄▅▆▇█"
_PLAIN = " .:-=+*#%"


@singledispatch
def columns_of(result: object) -> dict[str, str]:
    """Returns the cells that describe a result, by the head of the column."""
    raise NotImplementedError(type(result).__name__)


@columns_of.register
def _(result: np.ndarray) -> dict[str, str]:
    found = describe(result)
    numbers = () if found is None else (("min", found.min), ("mean", found.mean), ("max", found.max))
    return {"result": shape_cell(result.shape), **{name: f"{number:.4g}" for name, number in numbers}}


@columns_of.register
def _(result: SiteStatistics) -> dict[str, str]:
    return dict(zip(STATISTICS, statistics_cells(result), strict=True))


@columns_of.register
def _(result: SiteHistogram) -> dict[str, str]:
    return {
        "low": f"{result.low:.4g}",
        "histogram": bars(result.counts),
        "high": f"{result.high:.4g}",
        "below": str(result.below_count),
        "above": str(result.above_count),
        "NaN": str(result.nan_count),
    }


@columns_of.register
def _(result: SiteQuantiles) -> dict[str, str]:
    cells = zip(result.probabilities, result.values, strict=True)
    return {f"{probability:.6g}": f"{value:.4g}" for probability, value in cells}


@columns_of.register
def _(result: TopElements) -> dict[str, str]:
    shown = {"result": shape_cell(result.values.shape), "greatest": ""}
    if result.values.size:
        first = (0,) * (result.values.ndim - 1)
        pairs = zip(result.indices[first], result.values[first], strict=True)
        which = "the first: " if result.values.ndim > 1 and result.values.size > result.values.shape[-1] else ""
        shown["greatest"] = which + _some(f"{index}: {float(value):.4g}" for index, value in pairs)
    return shown


@columns_of.register
def _(result: SiteDeadUnits) -> dict[str, str]:
    units = len(result.zero_counts)
    return {
        "units": str(units),
        "dead": str(result.count),
        "share": f"{result.count / units:.1%}" if units else "",
        "which": _some(map(str, result.indices)),
    }


@columns_of.register(SiteCovariance)
@columns_of.register(SiteCorrelation)
def _(result: SiteCovariance | SiteCorrelation) -> dict[str, str]:
    units = len(result.matrix)
    pairs = np.where(np.isfinite(result.matrix), np.abs(result.matrix), -1)
    np.fill_diagonal(pairs, -1)
    pair = divmod(int(np.argmax(pairs)), units) if pairs.size else (0, 0)
    known = pairs.size > 0 and pairs[pair] >= 0
    strongest = f"{pair[0]} and {pair[1]}: {result.matrix[pair]:.4g}" if known else ""
    return {"units": str(units), "samples": str(result.sample_count), "strongest pair": strongest}


def bars(counts: np.ndarray) -> str:
    """Returns a histogram as a line of blocks, of at most 40, each as high as the mean of its bins; none is nothing."""
    starts = np.unique(np.linspace(0, len(counts), _BARS, endpoint=False).astype(int)) if len(counts) > _BARS else None
    heights = counts if starts is None else np.add.reduceat(counts, starts) / np.diff([*starts, len(counts)])
    greatest = heights.max(initial=0) or 1
    steps = np.ceil(heights * (len(_BLOCKS) - 1) / greatest).astype(int)
    line = "".join(_BLOCKS[step] for step in steps)
    try:
        line.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        line = "".join(_PLAIN[step] for step in steps)
    return f"|{line}|"


def _some(words: Iterable[str], *, most: int = 5) -> str:
    """Returns the first few words, and how many more there are."""
    known = list(words)
    more = f", and {len(known) - most} more" if len(known) > most else ""
    return ", ".join(known[:most]) + more
