"""The greatest elements on the device, against NumPy's stable sort."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fluoroscope_server.engine import Part, TopK
from fluoroscope_server.errors import InvalidRequestError
from fluoroscope_server.signature import BATCH

from .samples import DTYPES, sample, samples

if TYPE_CHECKING:
    from .samples import Sample


def order(array: np.ndarray) -> np.ndarray:
    """Returns the indices of the last axis, NaN first, then the greatest, of equal ones the first."""
    wide = array.astype(np.float64)
    return np.argsort(np.where(np.isnan(wide), -np.inf, -np.nextafter(wide, -np.inf)), axis=-1, kind="stable")


@settings(deadline=None, max_examples=60)
@given(drawn=samples(dtypes=(*DTYPES, "uint32", "int16", "float8_e5m2")), data=st.data())
def test_against_a_sort(drawn: Sample, data: st.DataObject) -> None:
    assume(drawn.axis != drawn.padded.ndim - 1)
    assume(drawn.padded.size)
    k = data.draw(st.integers(1, drawn.padded.shape[-1]))
    values, indices = drawn.reduce(TopK(k=k))
    want = order(drawn.kept)[..., :k]
    np.testing.assert_array_equal(indices, want)
    np.testing.assert_array_equal(values.astype(np.float64), np.take_along_axis(drawn.wide, want, -1))


def test_nan_comes_first_and_ties_in_order() -> None:
    nan = np.float32(np.nan)
    array = np.array([[0.0, -0.0, np.inf, nan, -nan, 7, 7]], np.float32)
    _, indices = sample(array).reduce(TopK(k=7))
    assert indices.tolist() == [[3, 4, 2, 5, 6, 0, 1]]


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("uint32", [0, 2**32 - 1, 2**31, 1]),
        ("int32", [-(2**31), 2**31 - 1, 2**24, 2**24 + 1]),
        ("uint8", [200, 3, 255, 128]),
        ("int8", [-128, 127, 0, 5]),
    ],
)
def test_whole_numbers_are_not_rounded(dtype: str, values: list[int]) -> None:
    found, indices = sample(np.array(values, dtype)).reduce(TopK(k=4))
    assert found.tolist() == sorted(values, reverse=True)
    assert [values[index] for index in indices] == found.tolist()


def test_parts() -> None:
    spec = sample(np.zeros((2, 3, 4), jnp.bfloat16), axis=0).spec
    assert TopK(k=2).parts(spec) == (
        Part(name="values", dtype=np.dtype(jnp.bfloat16), shape=(BATCH, 3, 2)),
        Part(name="indices", dtype=np.dtype(np.int32), shape=(BATCH, 3, 2), exact=True),
    )


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (sample(np.zeros((2, 3), np.float32)), "k is 4, and the last axis of site 'Dense_0' has 3 elements"),
        (sample(np.zeros((2, 9), np.complex64)), "the greatest elements are of real values"),
        (sample(np.zeros((), np.float32)), "site 'Dense_0' is a scalar"),
        (sample(np.zeros(9, np.float32), axis=0), "the last axis of site 'Dense_0' is the batch"),
    ],
)
def test_what_it_refuses(asked: Sample, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message) as caught:
        asked.reduce(TopK(k=4))
    assert str(caught.value.field).startswith("captures[0].reductions[0]")
