"""Norms on the device, against NumPy in float64."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluoroscope_server.engine import Norm, Part
from fluoroscope_server.engine.reductions import ORDERS
from fluoroscope_server.errors import InvalidRequestError
from fluoroscope_server.signature import BATCH

from .samples import sample, samples

if TYPE_CHECKING:
    from .samples import Sample


def norm(wide: np.ndarray, axes: tuple[int, ...] | None, order: float) -> Any:
    magnitude = np.abs(wide)
    if order == math.inf:
        return magnitude.max(axis=axes, initial=0)
    return (magnitude**order).sum(axis=axes) ** (1 / order)


@settings(deadline=None, max_examples=50)
@given(drawn=samples(), order=st.sampled_from(ORDERS), data=st.data())
def test_against_float64(drawn: Sample, order: float, data: st.DataObject) -> None:
    ndim = drawn.padded.ndim
    axes = tuple(data.draw(st.lists(st.integers(0, ndim - 1), unique=True)))
    asked = tuple(axis - ndim if data.draw(st.booleans()) else axis for axis in axes)
    (found,) = drawn.reduce(Norm(axes=asked, order=order))
    np.testing.assert_allclose(found, norm(drawn.wide, axes or None, order), rtol=1e-5)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("magnitude", [1e-36, 1e37, 3e38])
def test_squares_do_not_overflow(order: float, magnitude: float) -> None:
    array = np.array([[magnitude, -magnitude / 2], [0, magnitude / 3]], np.float32)
    (found,) = sample(array).reduce(Norm(axes=(1,), order=order))
    with np.errstate(over="ignore"):
        want = norm(array.astype(np.float64), (1,), order).astype(np.float32)
    np.testing.assert_allclose(found, want, rtol=1e-6)


def test_of_complex_values() -> None:
    array = np.array([[3 + 4j, 0], [1j, -1]], np.complex64)
    for order in ORDERS:
        (found,) = sample(array).reduce(Norm(axes=(-1,), order=order))
        np.testing.assert_allclose(found, norm(array, (1,), order), rtol=1e-6)


def test_of_a_scalar() -> None:
    (found,) = sample(np.array(-3, np.int8)).reduce(Norm())
    assert found == 3
    assert found.dtype == np.float32


@pytest.mark.parametrize(
    ("axes", "shape"), [((), ()), ((0,), (3, 4)), ((-3,), (3, 4)), ((1, -1), (BATCH,)), ((-1,), (BATCH, 3))]
)
def test_the_shape(axes: tuple[int, ...], shape: tuple[int, ...]) -> None:
    spec = sample(np.zeros((2, 3, 4), jnp.bfloat16), axis=0).spec
    assert Norm(axes=axes).parts(spec) == (Part(dtype=np.dtype(np.float32), shape=shape),)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ((2,), r"site 'Dense_0' has no axis 2: it has axes 0 to 1, or -2 to -1"),
        ((-3,), r"no axis -3"),
        ((0, -2), r"axes 0, -2 of site 'Dense_0', which has 2, are not all different"),
    ],
)
def test_axes_that_are_not_there(axes: tuple[int, ...], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message) as caught:
        sample(np.zeros((2, 3), np.float32)).reduce(Norm(axes=axes))
    assert caught.value.field == "captures[0].reductions[0].norm.axes"
    with pytest.raises(InvalidRequestError, match="no axis 0: it has no axes: it is a scalar"):
        sample(np.zeros((), np.float32)).reduce(Norm(axes=(0,)))
