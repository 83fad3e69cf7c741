"""The value as it is."""

from __future__ import annotations

import jax.numpy as jnp
import pytest

from fluoroscope.wire.dtype import DTYPES
from fluoroscope_server.engine import Full, Part, Statistics, ValueSpec
from fluoroscope_server.signature import BATCH

NONE = jnp.zeros(0, jnp.float32)


@pytest.mark.parametrize("dtype", [str(each) for each in DTYPES.values()])
def test_accepts_every_type(dtype: str) -> None:
    value = ValueSpec(site="x", dtype=jnp.dtype(dtype), shape=(BATCH, 3))
    Full().check(value, field="f")
    assert Full().parts(value) == (Part(dtype=value.dtype, shape=value.shape),)


def test_is_the_value() -> None:
    value = jnp.arange(3)
    assert Full().compute(value, None, NONE) == (value,)
    assert Full().compute(value, jnp.array([True, False, False]), NONE) == (value,)


def test_equal_ones_are_one() -> None:
    """They are part of a plan."""
    assert {Full(), Full(), Statistics()} == {Full(), Statistics()}
