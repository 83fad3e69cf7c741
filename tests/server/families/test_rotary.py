"""Rotary positions, against complex numbers in float64."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluoroscope_server.families.rotary import rotate


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize("size", [2, 4, 6])
def test_pairs_are_turned_as_complex_numbers_are(size: int) -> None:
    x = drawn(2, 3, 5, size)
    speeds = 10000.0 ** (-np.arange(size // 2) / (size // 2))
    turned = (x[..., : size // 2] + 1j * x[..., size // 2 :]) * np.exp(1j * np.arange(5)[:, None] * speeds)
    found = rotate(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(found, np.concatenate([turned.real, turned.imag], axis=-1), rtol=1e-5, atol=1e-6)


@settings(deadline=None)  # the first example compiles
@given(query=st.integers(0, 39), key=st.integers(0, 39), shift=st.integers(0, 20))
def test_products_depend_on_the_distance_only(query: int, key: int, shift: int) -> None:
    one, other = (np.broadcast_to(drawn(1, 1, 1, 8, seed=seed), (1, 1, 60, 8)) for seed in (1, 2))
    queries, keys = (np.asarray(rotate(jnp.asarray(each, jnp.float32)), np.float64)[0, 0] for each in (one, other))
    near, far = queries[query] @ keys[key], queries[query + shift] @ keys[key + shift]
    np.testing.assert_allclose(near, far, atol=1e-4)


def test_the_dtype_stays() -> None:
    assert rotate(jnp.ones((1, 1, 2, 4), jnp.bfloat16)).dtype == jnp.bfloat16
