"""Means on the device, against NumPy in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluoroscope_server.engine import Mean
from fluoroscope_server.errors import InvalidRequestError

from .samples import sample, samples

if TYPE_CHECKING:
    from .samples import Sample


@settings(deadline=None, max_examples=50)
@given(drawn=samples(), data=st.data())
def test_against_float64(drawn: Sample, data: st.DataObject) -> None:
    ndim = drawn.padded.ndim
    axes = tuple(data.draw(st.lists(st.integers(0, ndim - 1), unique=True)))
    asked = tuple(axis - ndim if data.draw(st.booleans()) else axis for axis in axes)
    (found,) = drawn.reduce(Mean(axes=asked))
    with np.errstate(invalid="ignore", divide="ignore"):
        want = drawn.wide.sum(axis=axes or None) / (drawn.kept.size / max(1, found.size))
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("value", [np.finfo(np.float32).min, 3e38, 1e-36])
def test_sums_do_not_overflow(value: float) -> None:
    array = np.full((64, 3), value, np.float32)
    for axes in ((), (0,), (0, 1), (1,)):
        (found,) = sample(array).reduce(Mean(axes=axes))
        np.testing.assert_allclose(found, np.float32(value), rtol=1e-6)


def test_of_a_scalar() -> None:
    (found,) = sample(np.array(True)).reduce(Mean())
    assert found == 1
    assert found.dtype == np.float32


def test_what_it_refuses() -> None:
    with pytest.raises(InvalidRequestError, match="means are of real values"):
        sample(np.zeros(3, np.complex64)).reduce(Mean())
    with pytest.raises(InvalidRequestError, match="no axis 1") as caught:
        sample(np.zeros(3, np.float32)).reduce(Mean(axes=(1,)))
    assert caught.value.field == "captures[0].reductions[0].mean.axes"
