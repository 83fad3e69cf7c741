"""Covariances and correlations on the client, against NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluoroscope import SiteCorrelation, SiteCovariance, SiteDeadUnits


def covariance_of(data: np.ndarray) -> SiteCovariance:
    matrix = np.cov(data.T, bias=True).reshape(data.shape[1], -1)
    return SiteCovariance(matrix=matrix, mean=data.mean(0), sample_count=len(data))


@settings(max_examples=50)
@given(seed=st.integers(0, 2**32), cuts=st.lists(st.integers(1, 29), min_size=1, max_size=4, unique=True))
def test_batches_add_up(seed: int, cuts: list[int]) -> None:
    data = np.random.default_rng(seed).normal(100, 1, (30, 3))
    first, *rest = (covariance_of(each) for each in np.split(data, sorted(cuts)))
    whole, found = covariance_of(data), sum(rest, first)
    assert found.sample_count == 30
    np.testing.assert_allclose(found.matrix, whole.matrix, atol=1e-9)
    np.testing.assert_allclose(found.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(found.correlation, np.corrcoef(data.T), atol=1e-9)


def test_no_samples_add_nothing() -> None:
    nothing = SiteCovariance(matrix=np.full((3, 3), np.nan), mean=np.full(3, np.nan), sample_count=0)
    some = covariance_of(np.random.default_rng(1).normal(size=(9, 3)))
    for found in (some + nothing, nothing + some):
        assert found.sample_count == 9
        np.testing.assert_array_equal(found.matrix, some.matrix)
        np.testing.assert_array_equal(found.mean, some.mean)
    assert (nothing + nothing).sample_count == 0


def test_a_correlation_is_a_covariance_too() -> None:
    data = np.random.default_rng(1).normal(size=(30, 3))
    data[:, 1] = 5
    whole = covariance_of(data)
    found = SiteCorrelation(matrix=whole.correlation, mean=whole.mean, std=data.std(0), sample_count=30)
    assert np.isnan(found.matrix[1]).all()
    np.testing.assert_allclose(found.covariance.matrix, whole.matrix, atol=1e-12)


def test_different_sites_do_not_add_up() -> None:
    with pytest.raises(ValueError, match="there are 3 units here and 2 there"):
        _ = covariance_of(np.ones((4, 3))) + covariance_of(np.ones((4, 2)))
    dead = [SiteDeadUnits(zero_counts=np.ones(units, np.int64), sample_count=2) for units in (3, 2)]
    with pytest.raises(ValueError, match="there are 3 units here and 2 there"):
        _ = dead[0] + dead[1]
