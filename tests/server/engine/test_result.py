"""What leaves the device."""

from __future__ import annotations

import numpy as np
import pytest

from fluoroscope_server.engine.result import trim


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_trim_cuts_one_axis_and_copies_nothing(axis: int) -> None:
    array = np.arange(4 * 4 * 4).reshape(4, 4, 4)
    shape = [4, 4, 4]
    shape[axis] = 3
    trimmed = trim(array, axis, tuple(shape))
    np.testing.assert_array_equal(trimmed, array.take(range(3), axis))
    assert trimmed.base is not None
    assert np.shares_memory(trimmed, array)


def test_trim_leaves_what_is_whole() -> None:
    array = np.arange(4)
    assert trim(array, 0, (4,)) is array
    assert trim(array, None, (2,)) is array
