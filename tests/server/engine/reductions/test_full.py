"""The value as it is."""

from __future__ import annotations

import jax.numpy as jnp
import pytest

from fluoroscope.wire.dtype import DTYPES
from fluoroscope_server.engine import Full, Statistics


@pytest.mark.parametrize("dtype", [str(each) for each in DTYPES.values()])
def test_accepts_every_type(dtype: str) -> None:
    Full().check(jnp.dtype(dtype), "x", field="f")


def test_is_the_value() -> None:
    value = jnp.arange(3)
    assert Full().compute(value, None) == (value,)
    assert Full().compute(value, jnp.array([True, False, False])) == (value,)


def test_equal_ones_are_one() -> None:
    """They are part of a plan."""
    assert {Full(), Full(), Statistics()} == {Full(), Statistics()}
    assert Full.gives_tensor
