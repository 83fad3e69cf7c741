"""Casts on the device, against ml_dtypes."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluoroscope_server.engine import Cast, Covariance, DeadUnits, Full, Norm, Part, TopK
from fluoroscope_server.engine.reductions import TYPES
from fluoroscope_server.errors import InvalidRequestError

from .samples import float32, sample, samples

if TYPE_CHECKING:
    from fluoroscope_server.engine import Reduction

    from .samples import Sample

INT8 = np.dtype(np.int8)
FLOATS = [each for each in TYPES if each != INT8]


@settings(deadline=None, max_examples=60)
@given(drawn=samples(), dtype=st.sampled_from(FLOATS))
def test_floats(drawn: Sample, dtype: np.dtype) -> None:
    (found,) = drawn.reduce(Cast(reduction=Full(), dtype=dtype))
    with np.errstate(over="ignore"):
        want = drawn.kept.astype(np.float32).astype(dtype)
    np.testing.assert_array_equal(found.astype(np.float64), want.astype(np.float64))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_what_a_type_cannot_hold(dtype: np.dtype) -> None:
    """It becomes infinite, or NaN: never a number that it is not."""
    array = np.array([1e38, -1e38, np.inf, np.nan], np.float32)
    (found,) = sample(array).reduce(Cast(reduction=Full(), dtype=dtype))
    if dtype not in (np.dtype(np.float32), np.dtype(jnp.bfloat16)):
        assert not np.isfinite(found.astype(np.float32)).any()


@settings(deadline=None, max_examples=60)
@given(drawn=samples(dtypes=("float32", "bfloat16", "int32", "bool", "uint8")))
def test_int8(drawn: Sample) -> None:
    found, scale = drawn.reduce(Cast(reduction=Full(), dtype=INT8))
    wide = drawn.wide
    finite = np.isfinite(wide)
    greatest = np.abs(wide[finite]).max(initial=0)
    assert scale == pytest.approx(greatest / 127 if greatest else 1, rel=1e-6)
    np.testing.assert_allclose(found[finite] * scale, wide[finite], atol=0.501 * float(scale))
    assert (found[wide == np.inf] == 127).all()
    assert (found[wide == -np.inf] == -127).all()
    np.testing.assert_array_equal(found == -128, np.isnan(wide))
    assert (found[wide == 0] == 0).all()


def test_int8_of_extreme_magnitudes() -> None:
    for magnitude in (3e38, 1e-30, 1e-38, 1e-44):
        array = float32([magnitude, -magnitude / 2, 0])
        found, scale = sample(array).reduce(Cast(reduction=Full(), dtype=INT8))
        np.testing.assert_allclose(found * scale.astype(np.float64), array, atol=max(magnitude / 250, 2e-38))


@pytest.mark.parametrize(
    ("reduction", "dtype", "names"),
    [
        (Full(), "float16", [("", "float16")]),
        (Full(), "int8", [("value", "int8"), ("scale", "float32")]),
        (Full(), "bfloat16", [("", "bfloat16")]),
        (Norm(), "float32", [("", "float32")]),
        (Norm(), "int8", [("value", "int8"), ("scale", "float32")]),
        (TopK(k=2), "float16", [("values", "float16"), ("indices", "int32")]),
        (TopK(k=2), "int8", [("values", "int8"), ("values_scale", "float32"), ("indices", "int32")]),
        (DeadUnits(), "float16", [("", "int32")]),
        (
            Covariance(),
            "int8",
            [("matrix", "int8"), ("matrix_scale", "float32"), ("mean", "int8"), ("mean_scale", "float32")],
        ),
    ],
)
def test_parts(reduction: Reduction, dtype: str, names: list[tuple[str, str]]) -> None:
    array = np.random.default_rng(0).normal(size=(4, 3)).astype(jnp.bfloat16)
    drawn = sample(array, axis=0, rows=3)
    cast = Cast(reduction=reduction, dtype=np.dtype(jnp.dtype(dtype)))
    assert [(part.name, str(part.dtype)) for part in cast.parts(drawn.spec)] == names
    assert len(drawn.reduce(cast)) == len(names)


def test_int8_stays_int8() -> None:
    spec = sample(np.zeros((2, 3), np.int8)).spec
    assert Cast(reduction=Full(), dtype=INT8).parts(spec) == (Part(dtype=INT8, shape=(2, 3)),)


@pytest.mark.parametrize(("axes", "garbage"), list(itertools.product([(-1,), (0,)], [1e30, np.nan, np.inf])))
def test_the_scale_of_a_part_is_of_rows_that_count(axes: tuple[int, ...], garbage: float) -> None:
    array = float32([[3, 4], [0, 0], [garbage, garbage]])
    drawn = sample(array, axis=0, rows=2)
    (want,) = drawn.reduce(Norm(axes=axes))
    found, scale = drawn.reduce(Cast(reduction=Norm(axes=axes), dtype=INT8))
    np.testing.assert_allclose(found * scale, want, atol=0.501 * float(scale))
    assert scale == pytest.approx(want.max() / 127)


def test_a_batch_of_one_row() -> None:
    found, scale = sample(float32([[1, -2]]), axis=0, rows=1).reduce(Cast(reduction=Full(), dtype=INT8))
    np.testing.assert_allclose(found * scale, float32([[1, -2]]), atol=float(scale))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_complex_values_are_refused(dtype: np.dtype) -> None:
    drawn = sample(np.zeros((2, 3), np.complex64))
    with pytest.raises(
        InvalidRequestError, match=rf"site 'Dense_0' is complex64, which no cast to {dtype} can hold"
    ) as caught:
        drawn.reduce(Cast(reduction=Full(), dtype=dtype))
    assert caught.value.field == "captures[0].data_type"
    assert len(drawn.reduce(Cast(reduction=Norm(), dtype=dtype))) in {1, 2}, "but its norm is real"


def test_it_refuses_what_its_reduction_refuses() -> None:
    with pytest.raises(InvalidRequestError, match="k is 9"):
        sample(np.zeros((2, 3), np.float32)).reduce(Cast(reduction=TopK(k=9), dtype=INT8))


def test_equal_ones_are_one() -> None:
    assert len({Cast(reduction=Full(), dtype=INT8), Cast(reduction=Full(), dtype=np.dtype("int8"))}) == 1
    assert Cast(reduction=Full(), dtype=INT8) != Cast(reduction=Full(), dtype=np.dtype(np.float16))
