"""Quantiles on the device, against NumPy in float64."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluoroscope_server.engine import Quantiles
from fluoroscope_server.errors import InvalidRequestError

from .samples import float32, sample, samples

if TYPE_CHECKING:
    from .samples import Sample

PROBABILITIES = st.lists(st.floats(0, 1), min_size=3, max_size=3)


def quantiles(wide: np.ndarray, probabilities: tuple[float, ...]) -> np.ndarray:
    finite = wide[np.isfinite(wide)]
    return np.quantile(finite, probabilities) if finite.size else np.full(len(probabilities), math.nan)


@settings(deadline=None, max_examples=25)
@given(drawn=samples(), probabilities=PROBABILITIES)
def test_against_float64(drawn: Sample, probabilities: list[float]) -> None:
    asked = tuple(probabilities)
    found = drawn.summary(Quantiles(probabilities=asked))
    np.testing.assert_allclose(found.values, quantiles(drawn.wide, asked), rtol=1e-6, atol=1e-6)
    assert found.finite_count == np.isfinite(drawn.wide).sum()


@pytest.mark.parametrize("size", [1, 2, 3, 1000, 70_001, (1 << 20) + 1])
def test_every_rank_is_exact(size: int) -> None:
    """The weight of a neighbour among a million needs more digits than float32 has."""
    array = np.random.default_rng(size).normal(size=size).astype(np.float32)
    probabilities = (0.0, 1.0, 0.5, 1 / 3, 0.999, 0.9999999, 1e-7, 0.1)
    found = sample(array).summary(Quantiles(probabilities=probabilities))
    np.testing.assert_allclose(found.values, quantiles(array.astype(np.float64), probabilities), rtol=1e-6, atol=1e-6)


def test_ranks_of_whole_numbers() -> None:
    """A value at its own rank shows every error of the rank."""
    size = 3_000_001
    array = np.random.default_rng(0).permutation(size).astype(np.float32)
    probabilities = (0.123456789, 0.5, 0.7654321, 0.9999999)
    found = sample(array).summary(Quantiles(probabilities=probabilities))
    np.testing.assert_allclose(found.values, np.multiply(probabilities, size - 1), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "array",
    [
        float32([3, 3, 3, 3]),
        float32([1, 1, 2, 2, 2]),
        float32([-0.0, 0.0, -0.0]),
        float32([-1e38, 3e38, -3e38]),
        float32([np.finfo(np.float32).max, np.finfo(np.float32).min]),
        float32(7),
    ],
    ids=str,
)
@pytest.mark.parametrize("probability", [0.0, 0.25, 0.5, 0.6, 1.0])
def test_ties_and_magnitudes(array: np.ndarray, probability: float) -> None:
    found = sample(array).summary(Quantiles(probabilities=(probability,)))
    np.testing.assert_allclose(found.values, quantiles(array.astype(np.float64).ravel(), (probability,)), rtol=1e-6)


def test_the_order_is_that_of_the_question() -> None:
    array = np.arange(5, dtype=np.float32)
    assert sample(array).summary(Quantiles(probabilities=(1.0, 0.0, 0.5, 1.0))).values == (4, 0, 2, 4)


def test_probabilities_are_no_part_of_the_plan() -> None:
    one, other = Quantiles(probabilities=(0.1, 0.2)), Quantiles(probabilities=(0.3, 0.4))
    assert one == other
    assert repr(one) == repr(other)
    assert one.numbers != other.numbers
    assert Quantiles(probabilities=(0.1,)) != one


def test_complex_values_are_refused() -> None:
    with pytest.raises(InvalidRequestError, match="quantiles are of real values"):
        sample(np.zeros(3, np.complex64)).reduce(Quantiles(probabilities=(0.5,)))
