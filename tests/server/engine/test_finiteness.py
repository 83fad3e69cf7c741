"""Counts of NaN and infinite weights, against NumPy, for every dtype that can hold either."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from fluoroscope_server.engine import nonfinite_leaves


@pytest.mark.parametrize(
    "dtype", [np.float16, ml_dtypes.bfloat16, np.float32, ml_dtypes.float8_e5m2, ml_dtypes.float8_e4m3fn, np.complex64]
)
def test_counts_are_those_of_numpy(dtype: type) -> None:
    values: np.ndarray = np.array([[1, np.nan, -2, np.inf], [0, -np.inf, np.nan, np.inf]]).astype(dtype)
    wide = values.astype(np.complex128)
    want = int(np.isnan(wide).sum()), int(np.isinf(wide).sum())
    assert nonfinite_leaves({"params": {"a": jnp.asarray(values), "b": jnp.zeros(3)}}) == {"params/a": want}
    assert want[0] >= 2


def test_what_can_hold_neither_is_finite() -> None:
    tree = [jnp.arange(3), jnp.ones(2, bool), jax.random.key(0), jnp.zeros((0, 3)), jnp.float32(3.0e38), {}]
    assert nonfinite_leaves(tree) == {}
    assert nonfinite_leaves({}) == {}
    assert nonfinite_leaves(jnp.float32(np.nan)) == {"": (1, 0)}
