"""Reductions in programs: many at once, under padding, and what makes another program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

from fluoroscope_server.engine import (
    Capture,
    Cast,
    Correlation,
    Covariance,
    DeadUnits,
    Full,
    Histogram,
    Mean,
    Norm,
    Quantiles,
    SiteHistogram,
    SiteQuantiles,
    Slice,
    Statistics,
    TopK,
)
from fluoroscope_server.engine.inspection import MOST_RESULTS
from fluoroscope_server.errors import LimitExceededError

if TYPE_CHECKING:
    from collections.abc import Callable

    import jax
    from tests.server.engine.conftest import Lab

    from fluoroscope_server.engine import (
        Reduction,
    )

INT8 = np.dtype(np.int8)


@pytest.fixture(scope="module")
def lab(function_lab: Callable[..., Lab]) -> Lab:
    def network(_: object, inputs: dict[str, jax.Array]) -> dict[str, jax.Array]:
        x = checkpoint_name(jnp.maximum(inputs["x"], 0.0), "relu")
        return {"y": checkpoint_name(jnp.moveaxis(x, 0, 1), "moved").sum(0)}

    return function_lab(network, inputs={"x": {"shape": [3, 5]}}, outputs=["y"])


def example(rows: int) -> np.ndarray:
    array = np.random.default_rng(rows).normal(size=(rows, 3, 5)).astype(np.float32)
    array[:, :, 2] = -1
    return array


ALL: list[Reduction] = [
    Full(),
    Statistics(),
    Histogram(bins=4),
    Histogram(bins=4, low=0.0, high=1.0),
    Histogram(bins=5, low=0.0, high=1.0),
    Quantiles(probabilities=(0.5, 0.75)),
    Quantiles(probabilities=(0.25, 1.0)),
    Norm(axes=(0,)),
    Norm(axes=(-1,), order=1.0),
    Mean(axes=(0, 1)),
    TopK(k=2),
    DeadUnits(),
    Covariance(),
    Correlation(),
    Cast(reduction=Full(), dtype=INT8),
    Cast(reduction=TopK(k=2), dtype=np.dtype(np.float16)),
]


@pytest.mark.parametrize("padding", [np.nan, 100.0])
@pytest.mark.parametrize("site", ["relu", "moved"])
def test_everything_at_once(lab: Lab, site: str, padding: float) -> None:
    """Rows that only fill the bucket are NaN, or large, and do not show."""
    x = example(3)
    value = np.maximum(x, 0) if site == "relu" else np.moveaxis(np.maximum(x, 0), 0, 1)
    inspection = lab.inspect(site, rows=3, reductions=ALL)
    results = lab.run(inspection, x, padding=padding)
    pairs = list(zip(inspection.results, results, strict=True))
    found: dict[tuple[str, str | None], Any] = {(repr(spec.reduction), spec.part): result for spec, result in pairs}

    for spec, result in pairs:
        assert spec.value_shape == value.shape
        assert spec.value_dtype == np.float32
        if spec.part is not None:
            assert isinstance(result, np.ndarray)
            assert (result.shape, result.dtype) == (spec.shape, spec.dtype)
    np.testing.assert_array_equal(found["Full()", ""], value)
    np.testing.assert_array_equal(found[repr(DeadUnits()), ""], (value == 0).sum(axis=(0, 1)))
    np.testing.assert_allclose(found[repr(Norm(axes=(0,))), ""], np.linalg.norm(value, axis=0), rtol=1e-5)
    np.testing.assert_allclose(found[repr(Mean(axes=(0, 1))), ""], value.mean(axis=(0, 1)), rtol=1e-5)
    covariance = np.cov(value.reshape(-1, 5).T, bias=True)
    np.testing.assert_allclose(found["Covariance()", "matrix"], covariance, atol=1e-6)
    np.testing.assert_array_equal(found[repr(TopK(k=2)), "values"], np.sort(value)[..., :-3:-1])
    histograms = [each for each in results if isinstance(each, SiteHistogram)]
    want = [np.histogram(value, 4)[0], np.histogram(value, 4, (0, 1))[0], np.histogram(value, 5, (0, 1))[0]]
    assert sorted(each.counts for each in histograms) == sorted(tuple(each) for each in want)
    quantiles = sorted(each.values for each in results if isinstance(each, SiteQuantiles))
    wanted = sorted(tuple(np.quantile(value, asked)) for asked in ((0.5, 0.75), (0.25, 1)))
    np.testing.assert_allclose(quantiles, wanted, rtol=1e-6)


def test_numbers_do_not_cause_a_compile(lab: Lab) -> None:
    x = example(2)

    def ask(low: float | None, probabilities: tuple[float, ...]) -> None:
        lab.capture("relu", x=x, reductions=[Histogram(bins=9, low=low), Quantiles(probabilities=probabilities)])

    ask(0.0, (0.1, 0.9))
    compiled = len(lab.compiled)
    ask(None, (0.3, 0.2))
    ask(-3.5, (1.0, 0.0))
    assert len(lab.compiled) == compiled
    ask(-3.5, (1.0, 0.0, 0.5))
    assert len(lab.compiled) == compiled + 1


def test_the_order_of_a_plan_does_not_depend_on_numbers(lab: Lab) -> None:
    asked: list[list[Reduction]] = [
        [
            Histogram(bins=9, low=low),
            Histogram(bins=8, low=3 - low),
            Quantiles(probabilities=(p,)),
            Quantiles(probabilities=(p, 0.5)),
        ]
        for low, p in ((0.0, 0.2), (1.0, 0.9), (2.5, 0.1))
    ]
    assert len({lab.inspect("relu", reductions=each).plan for each in asked}) == 1


def test_equal_parameters_are_answered_once(lab: Lab) -> None:
    once: list[Reduction] = [Histogram(bins=9), Quantiles(probabilities=(0.5,))]
    again: list[Reduction] = [Histogram(bins=9, low=None), Histogram(bins=9), Quantiles(probabilities=(0.5,))]
    assert lab.inspect("relu", reductions=again) == lab.inspect("relu", reductions=once)
    assert len(lab.inspect("relu", reductions=[Histogram(bins=9), Histogram(bins=9, low=1.0)]).results) == 2


def test_axes_are_those_that_slices_leave(lab: Lab) -> None:
    x = example(3)
    found = lab.capture("relu", x=x, slices=[Slice(axis=0, stop=2)], reductions=[TopK(k=1)])
    assert found["relu"].shape == (2, 3, 1)
    inspection = lab.inspect("moved", rows=3, slices=[Slice(axis=1, start=1)], reductions=[Mean(axes=(1,))])
    assert [each.shape for each in inspection.results] == [(3, 5)]


def test_too_many_results(lab: Lab) -> None:
    captures = [
        Capture(sites=("relu",), reductions=tuple(Histogram(bins=9, low=100.0 * index + each) for each in range(100)))
        for index in range(MOST_RESULTS // 100 + 1)
    ]
    with pytest.raises(
        LimitExceededError, match="would have more than 20,000 results, the most that the lim"
    ) as caught:
        lab.engine.inspect(captures, [], rows=1)
    assert (caught.value.field, caught.value.reason) == ("captures", "TOO_MANY_RESULTS")
