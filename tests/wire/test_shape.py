"""Which shapes an array can have: what NumPy says, without asking it."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fluoroscope.wire import DTYPES, MOST_AXES, WireError, byte_size, read_shape, show_shape

SIZES = st.integers(0, 3) | st.sampled_from([2**20, 2**31, 2**32, 2**61, 2**62, 2**63 - 1])
SHAPES = st.lists(SIZES, max_size=5) | st.lists(st.integers(0, 2), min_size=MOST_AXES - 2, max_size=MOST_AXES + 2)
GREATEST = 2**63 - 1


@given(sizes=SHAPES, place=st.integers(0, 5), dtype=st.sampled_from(list(DTYPES.values())))
@example(sizes=[GREATEST], place=0, dtype=np.dtype(np.int8))
@example(sizes=[GREATEST], place=0, dtype=np.dtype(np.int16))
def test_a_shape_is_refused_if_numpy_refuses_it(sizes: list[int], place: int, dtype: np.dtype) -> None:
    sizes.insert(place, 0)  # an array of no elements takes no memory
    try:
        array = np.empty(sizes, dtype)
    except ValueError:
        with pytest.raises(WireError, match="no array can have the shape"):
            byte_size(dtype, read_shape(sizes))
        return
    assert byte_size(dtype, read_shape(sizes)) == array.nbytes == 0


@given(sizes=st.lists(st.integers(0, 2**18), max_size=3), dtype=st.sampled_from(list(DTYPES.values())))
def test_the_bytes_are_the_elements_times_the_size_of_each(sizes: list[int], dtype: np.dtype) -> None:
    assert byte_size(dtype, read_shape(sizes)) == prod(sizes) * dtype.itemsize


@pytest.mark.parametrize("sizes", [[GREATEST] * MOST_AXES, [GREATEST, 2], [GREATEST, GREATEST, 0]])
def test_what_is_too_large_is_not_multiplied_out(sizes: list[int]) -> None:
    with pytest.raises(
        WireError, match=r"no array can have the shape .*: of int8, it has 2\*\*63 bytes or more"
    ) as refused:
        byte_size(np.dtype(np.int8), read_shape(sizes))
    assert len(str(refused.value)) < 500


def test_a_negative_size_is_named() -> None:
    with pytest.raises(WireError, match=r"shape is \[2, -3\]; no size may be negative"):
        read_shape([2, -3])


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        ([], "[]"),
        ([2, 3], "[2, 3]"),
        ([1] * 16, f"[{', '.join('1' * 16)}]"),
        ([1] * 17, f"[{', '.join('1' * 16)}, and 1 more]"),
        (range(10_016), f"[{', '.join(map(str, range(16)))}, and 10,000 more]"),
    ],
)
def test_a_shape_is_shown_by_its_first_sizes(sizes: list[int], text: str) -> None:
    assert show_shape(sizes) == text
