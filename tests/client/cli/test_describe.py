from __future__ import annotations

import math

import numpy as np
import pytest

from fluoroscope.cli.describe import describe
from fluoroscope.wire.dtype import DTYPES


def test_the_numbers_of_a_value() -> None:
    found = describe(np.array([[3, -4, 0], [np.nan, np.inf, -np.inf]], np.float32))

    assert found is not None
    assert (found.count, found.zero_count, found.nan_count, found.inf_count) == (6, 1, 1, 2)
    assert (found.min, found.max, found.abs_max, found.l2_norm) == (-4, 3, 4, 5)
    assert found.mean == pytest.approx(-1 / 3)
    assert found.std == pytest.approx(np.std([3, -4, 0]))


@pytest.mark.parametrize("value", [[], [np.nan, np.inf]])
def test_no_finite_element(value: list[float]) -> None:
    found = describe(np.array(value))

    assert found is not None
    assert all(map(math.isnan, (found.mean, found.std, found.min, found.max, found.abs_max)))
    assert found.l2_norm == 0


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_every_dtype_but_complex_ones(dtype: np.dtype) -> None:
    found = describe(np.ones(2).astype(dtype))

    assert (found is None) == (dtype.kind == "c")
    assert found is None or found.max == 1
