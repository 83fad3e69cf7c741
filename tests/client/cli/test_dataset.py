from __future__ import annotations

import numpy as np
import pytest

from fluoroscope.cli.dataset import DataSet


@pytest.mark.parametrize(
    ("rows", "size", "sizes"),
    [
        (10, 4, [4, 4, 2]),
        (9, 4, [4, 3, 2]),
        (8, 4, [4, 4]),
        (5, 8, [5]),
        (1, 8, [1]),
        (3, 1, [1, 1, 1]),
        (3, 2, [2, 1]),
    ],
)
def test_batches_are_all_rows_in_order_and_the_last_is_not_a_single_one(rows: int, size: int, sizes: list[int]) -> None:
    x = np.arange(2 * rows).reshape(rows, 2)
    data = DataSet(arrays={"x": x}, dtypes={"x": np.dtype(np.float32)}, rows=rows)
    batches = [inputs["x"] for inputs in data.batches(size)]
    assert [len(each) for each in batches] == sizes
    assert {each.dtype for each in batches} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(np.concatenate(batches), x)
