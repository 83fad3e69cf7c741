"""Covariance and correlation on the device, against NumPy in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import assume, given, settings

from fluoroscope_server.engine import Correlation, Covariance, ValueSpec
from fluoroscope_server.engine.reductions.covariance import MOST_UNITS
from fluoroscope_server.errors import InvalidRequestError

from .samples import sample, samples

if TYPE_CHECKING:
    from .samples import Sample

SHAPES = ((6, 5), (40, 7), (8, 3, 5), (2, 4))


def in_float64(wide: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the covariance and the mean."""
    samples = wide.reshape(-1, wide.shape[-1])
    with np.errstate(invalid="ignore"):
        mean = samples.mean(axis=0)
        centered = samples - mean
        return centered.T @ centered / len(samples), np.where(np.isfinite(mean), mean, np.nan)


@settings(deadline=None, max_examples=20)
@given(drawn=samples(shapes=SHAPES))
def test_covariance(drawn: Sample) -> None:
    assume(drawn.axis != drawn.padded.ndim - 1)
    matrix, mean = drawn.reduce(Covariance())
    want, want_mean = in_float64(drawn.wide)
    np.testing.assert_allclose(mean, want_mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(matrix, want, rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=20)
@given(drawn=samples(shapes=SHAPES))
def test_correlation(drawn: Sample) -> None:
    assume(drawn.axis != drawn.padded.ndim - 1)
    matrix, mean, std = drawn.reduce(Correlation())
    covariance, want_mean = in_float64(drawn.wide)
    with np.errstate(invalid="ignore", divide="ignore"):
        want_std = np.sqrt(np.diag(covariance))
        want = covariance / np.outer(want_std, want_std)
    np.testing.assert_allclose(mean, want_mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(std, want_std, rtol=1e-5, atol=1e-6)
    constant = want_std < 1e-9
    want[constant] = want[:, constant] = np.nan
    np.testing.assert_allclose(matrix, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("mean", "std"), [(1e4, 1.0), (-3e5, 10.0), (1e30, 1e27), (1e-20, 1e-17), (0.0, 1e37)])
def test_the_spread_around_a_large_mean_is_kept(mean: float, std: float) -> None:
    generator = np.random.default_rng(1)
    array = generator.multivariate_normal([0, 0, 0], [[1, 0.5, 0], [0.5, 1, -0.9], [0, -0.9, 2]], 500)
    array = (mean + std * array).astype(np.float32)
    want, want_mean = in_float64(array.astype(np.float64))
    matrix, means, deviations = sample(array).reduce(Correlation())
    np.testing.assert_allclose(means, want_mean, rtol=1e-6, atol=1e-6 * std)
    np.testing.assert_allclose(deviations, np.sqrt(np.diag(want)), rtol=1e-5)
    np.testing.assert_allclose(matrix, np.corrcoef(array.astype(np.float64).T), atol=1e-4)
    if 1e-15 < std < 1e15:
        np.testing.assert_allclose(sample(array).reduce(Covariance())[0], want, atol=1e-4 * std**2)


def test_many_samples_lose_no_digits() -> None:
    array = np.random.default_rng(3).uniform(0.9, 1.1, size=(500_001, 1)).astype(np.float32)
    array = np.concatenate([array, array, 2 - array], axis=1)
    want, _ = in_float64(array.astype(np.float64))
    np.testing.assert_allclose(sample(array).reduce(Covariance())[0], want, rtol=1e-5)
    signs = np.array([1.0, 1.0, -1.0])
    np.testing.assert_allclose(sample(array).reduce(Correlation())[0], np.outer(signs, signs), rtol=1e-6)


def test_a_unit_with_nan_spoils_no_other() -> None:
    array = np.random.default_rng(2).normal(size=(20, 4)).astype(np.float32)
    clean = sample(array).reduce(Correlation())[0]
    array[3, 1], array[5, 2] = np.nan, np.inf
    matrix = sample(array).reduce(Correlation())[0]
    fine = np.ix_([0, 3], [0, 3])
    np.testing.assert_array_equal(matrix[fine], clean[fine])
    assert np.isnan(matrix[1:3]).all()
    assert np.isnan(matrix[:, 1:3]).all()


def test_a_constant_unit_has_no_correlation() -> None:
    array = np.random.default_rng(2).normal(size=(20, 3)).astype(np.float32)
    array[:, 1] = 0.1
    matrix = sample(array).reduce(Correlation())[0]
    assert np.isnan(matrix[1]).all()
    assert sample(array).reduce(Covariance())[0][1] == pytest.approx(0, abs=1e-8)


def test_batches_can_be_put_together() -> None:
    generator = np.random.default_rng(3)
    data = generator.normal(5, 1, (50, 4)).astype(np.float32)
    whole, mean = in_float64(data.astype(np.float64))
    pieces = [(sample(data[:20]).reduce(Covariance()), 20), (sample(data[20:]).reduce(Covariance()), 30)]
    found_mean = sum(count * each[1].astype(np.float64) for each, count in pieces) / 50
    np.testing.assert_allclose(found_mean, mean, rtol=1e-6)
    found = sum(count * (each[0] + np.outer(each[1] - found_mean, each[1] - found_mean)) for each, count in pieces) / 50
    np.testing.assert_allclose(found, whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("reduction", "what"), [(Covariance(), "covariances"), (Correlation(), "correlations")])
def test_what_they_refuse(reduction: Covariance | Correlation, what: str) -> None:
    wide = ValueSpec(site="logits", dtype=np.dtype(np.float32), shape=(2, MOST_UNITS + 1))
    with pytest.raises(
        InvalidRequestError,
        match=f"site 'logits' has 4,097 units, and {what} are of at most 4,096: slice its last axis",
    ) as caught:
        reduction.check(wide, field="f")
    assert caught.value.reason == "TOO_MANY_UNITS"
    for array in (np.zeros((2, 3), np.complex64), np.zeros((), np.float32)):
        with pytest.raises(InvalidRequestError, match=what):
            sample(array).reduce(reduction)
