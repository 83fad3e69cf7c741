"""Quantiles of a data set are exact because the device's histograms are, where their edges are float32 numbers."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import jax
import ml_dtypes
import numpy as np
import pytest

from fluoroscope import Histogram, Quantiles, SiteHistogram, Statistics
from fluoroscope.calls.order_statistics import quantiles
from fluoroscope.cli.describe import describe
from fluoroscope_server.engine.reductions.histogram import Histogram as DeviceHistogram

if TYPE_CHECKING:
    from collections.abc import Callable

    from fluoroscope import Reduction, SiteQuantiles

PROBABILITIES = (0, 0.01, 0.05, 0.3, 0.5, 0.7, 0.95, 1)


@cache
def program(bins: int) -> Callable[..., Any]:
    return jax.jit(lambda value, numbers: DeviceHistogram(bins=bins).compute(value, None, numbers))


def computed(x: np.ndarray, asked: Reduction[Any]) -> Any:
    """What the device brings of one batch, by the server's own computation."""
    if isinstance(asked, Statistics):
        return describe(x)
    assert isinstance(asked, Histogram)
    histogram = DeviceHistogram(bins=asked.bins, low=asked.low, high=asked.high)
    arrays = [np.asarray(each) for each in program(asked.bins)(x, np.array(histogram.numbers, np.float32))]
    found = histogram.read(arrays, x.size)
    return SiteHistogram(
        low=found.low,
        high=found.high,
        counts=np.array(found.counts),
        below_count=found.below_count,
        above_count=found.above_count,
        nan_count=found.nan_count,
    )


def found_in(batches: list[np.ndarray]) -> SiteQuantiles:
    search = quantiles(Quantiles(*PROBABILITIES))
    asked = next(search)
    while True:
        parts = {each: [computed(batch, each) for batch in batches] for each in asked}
        try:
            asked = search.send({each: sum(rest, first) for each, (first, *rest) in parts.items()})
        except StopIteration as done:
            found: SiteQuantiles = done.value
            return found


@pytest.mark.parametrize("spread", [0.5, 3, 10, 70])
@pytest.mark.parametrize("kind", ["plain", "relu", "special", "bfloat16"])
def test_on_the_device_too(spread: float, kind: str) -> None:
    chance = np.random.default_rng(5)
    magnitudes = np.exp2(chance.normal(size=(600, 3)) * spread).clip(2.0**-113, 2.0**126)
    x = (magnitudes * chance.choice([-1, 1], size=(600, 3))).astype(np.float32)
    if kind == "relu":
        x = np.maximum(x, 0)
    if kind == "special":
        specials = chance.choice([np.nan, np.inf, -np.inf, 0.0, -1.0, 2.0], size=x.shape)
        x = np.where(chance.random(x.shape) < 0.3, specials, x).astype(np.float32)
    if kind == "bfloat16":
        x = x.astype(ml_dtypes.bfloat16).astype(np.float32)
    found = found_in(np.split(x, 3))
    finite = np.sort(x[np.isfinite(x)].astype(np.float64))
    assert found.finite_count == len(finite)
    assert (found[0.0], found[1.0]) == (finite[0], finite[-1])
    np.testing.assert_allclose(found.values, np.quantile(finite, PROBABILITIES), rtol=1e-11)
