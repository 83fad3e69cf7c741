"""Histograms on the device, against NumPy in float64."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluoroscope_server.engine import Histogram
from fluoroscope_server.errors import InvalidRequestError

from .samples import sample, samples

if TYPE_CHECKING:
    from fluoroscope_server.engine import SiteHistogram

    from .samples import Sample

LOWEST = float(np.finfo(np.float32).min)


def assert_counts(found: SiteHistogram, wide: np.ndarray) -> None:
    """Asserts that every edge has as many elements to its left as it should, give or take those all but on it."""
    inside = wide[np.isfinite(wide) & (wide >= found.low) & (wide <= found.high)]
    assert sum(found.counts) == inside.size
    assert found.below_count == (wide < found.low).sum()
    assert found.above_count == (wide > found.high).sum()
    assert found.nan_count == np.isnan(wide).sum()
    bins = len(found.counts)
    place = np.sort((inside - found.low) * (bins / (found.high - found.low)))
    until = np.cumsum(found.counts)[:-1]
    edges = np.arange(1, bins)
    assert np.all(until >= np.searchsorted(place, edges - 1e-6 * bins))
    assert np.all(until <= np.searchsorted(place, edges + 1e-6 * bins))


@settings(deadline=None, max_examples=25)
@given(drawn=samples(), bins=st.sampled_from([1, 7]), ends=st.sampled_from([(-1.0, 2.5), (0.0, 0.1), (5.0, 99.0)]))
def test_a_given_range(drawn: Sample, bins: int, ends: tuple[float, float]) -> None:
    found = drawn.summary(Histogram(bins=bins, low=ends[0], high=ends[1]))
    assert (found.low, found.high) == tuple(np.asarray(ends, np.float32).tolist())
    assert len(found.counts) == bins
    assert_counts(found, drawn.wide)


@settings(deadline=None, max_examples=25)
@given(drawn=samples(), bins=st.sampled_from([1, 7]))
def test_a_range_that_is_found(drawn: Sample, bins: int) -> None:
    found = drawn.summary(Histogram(bins=bins))
    wide = drawn.wide
    finite = wide[np.isfinite(wide)]
    infinite = [int((wide == end).sum()) for end in (-math.inf, math.inf)]
    assert [found.below_count, found.above_count] == infinite
    if not finite.size:
        assert math.isnan(found.low)
        assert math.isnan(found.high)
        assert found.counts == (0,) * bins
        assert found.nan_count == np.isnan(wide).sum()
        return
    room = 0.5 if finite.min() == finite.max() else 0.0
    assert found.low == np.float32(finite.min() - room)
    assert found.high == np.float32(finite.max() + room)
    assert_counts(found, wide)


@settings(deadline=None, max_examples=25)
@given(
    drawn=samples(odd=False, shapes=((6, 5), (4, 3, 5))), low=st.booleans(), end=st.sampled_from([-2.0, 0.0, 1.5, 90.0])
)
def test_one_end_given(drawn: Sample, low: bool, end: float) -> None:
    found = drawn.summary(Histogram(bins=10, **{"low" if low else "high": end}))
    wide = drawn.wide
    if low:
        assert (found.low, found.high) == (end, wide.max() if wide.max() > end else end + 1)
    else:
        assert (found.low, found.high) == (wide.min() if wide.min() < end else end - 1, end)
    assert_counts(found, wide)


@pytest.mark.parametrize("bins", [3, 7, 10, 41, 49])
def test_whole_numbers_are_counted_as_numpy_counts_them(bins: int) -> None:
    array = np.arange(-2 * bins, 4 * bins + 1, dtype=np.float32)
    found = sample(array).summary(Histogram(bins=bins, low=0.0, high=2.0 * bins))
    counts, _ = np.histogram(array, bins, (0, 2 * bins))
    assert found.counts == tuple(counts)
    assert found.counts[-1] == 3, "the right edge belongs to the last bin"


@pytest.mark.parametrize(
    "array",
    [
        np.array([LOWEST, 0, -LOWEST], np.float32),
        np.array([LOWEST, LOWEST, 1], np.float32),
        np.array([3e38] * 3, np.float32),
        np.array([-LOWEST, -LOWEST], np.float32),
        np.array([LOWEST], np.float32),
        np.array([1e-36, 3e-36, 2e-36, -1e-36], np.float32),
        np.array([1e6, 1e6 + 1, 1e6 + 0.5], np.float32),
        np.array([0, 1e-30, 1e30], np.float32),
    ],
    ids=str,
)
def test_any_magnitude(array: np.ndarray) -> None:
    found = sample(array).summary(Histogram(bins=5))
    assert math.isfinite(found.low)
    assert math.isfinite(found.high)
    assert found.low < found.high
    assert_counts(found, array.astype(np.float64))


@pytest.mark.parametrize("ends", [(0.0, None), (None, 0.0), (0.0, 1.0)])
def test_no_finite_element(ends: tuple[float | None, float | None]) -> None:
    array = np.array([math.inf, -math.inf, math.nan, math.inf], np.float32)
    found = sample(array).summary(Histogram(bins=2, low=ends[0], high=ends[1]))
    assert (found.counts, found.below_count, found.above_count, found.nan_count) == ((0, 0), 1, 2, 1)
    for end, given_end in zip((found.low, found.high), ends, strict=True):
        assert math.isnan(end) if given_end is None else end == given_end


def test_many_elements_and_many_bins() -> None:
    array = np.random.default_rng(0).normal(size=1 << 18).astype(np.float32)
    assert_counts(sample(array).summary(Histogram(bins=10_000)), array.astype(np.float64))


def test_the_range_is_no_part_of_the_plan() -> None:
    one, other = Histogram(bins=5, low=1.0, high=2.0), Histogram(bins=5)
    assert one == other
    assert repr(one) == repr(other)
    assert one.numbers != other.numbers
    assert Histogram(bins=5).numbers == other.numbers, "NaN is not equal to NaN, but the same question is the same"
    assert Histogram(bins=6) != other


def test_complex_values_are_refused() -> None:
    with pytest.raises(InvalidRequestError, match="histograms are of real values"):
        sample(np.zeros(3, np.complex64)).reduce(Histogram(bins=5))
