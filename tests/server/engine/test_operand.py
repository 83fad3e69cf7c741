"""What edits write, spread over the whole value: as NumPy assigns to a part of an array."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluoroscope_server.engine.operand import as_dtype, spread
from fluoroscope_server.engine.site import Site, SiteKind
from fluoroscope_server.errors import InvalidRequestError


def site(dtype: str) -> Site:
    wanted = np.dtype(getattr(ml_dtypes, dtype, dtype))
    return Site(path="Dense_0", kind=SiteKind.MODULE, dtype=wanted, shape=(-1, 3), order=0)


@given(st.data())
def test_spread_is_an_assignment_to_a_part(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 4), max_size=4))
    indices = [np.array(data.draw(st.permutations(range(size))))[: data.draw(st.integers(1, size))] for size in sizes]
    axes = data.draw(st.integers(0, len(sizes)))
    chosen = [len(each) for each in indices][len(sizes) - axes :]
    shape = [data.draw(st.sampled_from([1, size])) for size in chosen]
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    whole, varying = spread(array, indices, sizes, site("float32"), what="value", field="edits[0]")
    assert whole.shape == tuple(size if axis in varying else 1 for axis, size in enumerate(sizes))
    expected = np.zeros(sizes, np.float32)
    expected[np.ix_(*indices)] = array
    found = np.zeros(sizes, np.float32)
    found[np.ix_(*indices)] = np.broadcast_to(whole, sizes)[np.ix_(*indices)]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("shape", [(2,), (3, 1), (1, 1, 1), (0,), (2, 3, 1)])
def test_what_does_not_broadcast(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidRequestError, match=r"what is edited of site 'Dense_0' has shape \(2, 3\)"):
        spread(np.zeros(shape), [np.arange(2), np.arange(3)], (4, 3), site("float32"), what="value", field="edits[0]")


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        (np.float64(0.1), "float32"),
        (np.float32(0.1), "bfloat16"),
        (np.int64(7), "float32"),
        (np.array(True), "float32"),
        (np.int64(-128), "int8"),
        (np.float32(np.inf), "float16"),
        (np.float32(2), "complex64"),
        (np.array(7, ml_dtypes.int4), "int32"),
    ],
)
def test_what_a_dtype_holds(given: np.ndarray, dtype: str) -> None:
    held = as_dtype(np.asarray(given), site(dtype), what="value", field="edits[0]")
    assert held.dtype == site(dtype).dtype
    assert held == np.asarray(given).astype(held.dtype)


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        (np.float32(1), "int32"),
        (np.int64(128), "int8"),
        (np.uint64(2**63), "int64"),
        (np.float32(70000), "float16"),
        (np.int64(1), "bool"),
        (np.complex64(1), "float32"),
    ],
)
def test_what_a_dtype_does_not_hold(given: np.ndarray, dtype: str) -> None:
    with pytest.raises(InvalidRequestError, match=rf"and site 'Dense_0' is {dtype}: it cannot hold"):
        as_dtype(np.asarray(given), site(dtype), what="value", field="edits[0]")
