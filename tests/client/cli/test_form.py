from __future__ import annotations

import json

import numpy as np
import pytest

from fluoroscope.cli.form import json_of
from fluoroscope.wire.dtype import DTYPES


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_arrays_of_every_dtype_are_json(dtype: np.dtype) -> None:
    form = json_of(np.ones((1, 2)).astype(dtype))

    assert json.loads(json.dumps(form, allow_nan=False)) == form
    assert (form["dtype"], form["shape"]) == (dtype.name, [1, 2])
    assert form["data"] == ([[[1.0, 0.0]] * 2] if dtype.kind == "c" else [[1, 1]])


def test_numbers_that_json_has_not() -> None:
    form = json_of(np.array([np.nan, np.inf, -np.inf, 1]))

    assert form["data"] == ["NaN", "Infinity", "-Infinity", 1.0]
