"""Attention, against NumPy in float64."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluoroscope_server.families.attention import Attention
from fluoroscope_server.families.rotary import rotate

from ...drawn import doubles, numbers

BATCH, TOKENS, WIDTH = 2, 5, 12
X = np.random.default_rng(0).normal(size=(BATCH, TOKENS, WIDTH)).astype(np.float32)


def by_loops(params: Any, *, heads: int, causal: bool, rotary: bool) -> np.ndarray:
    """Returns attention as its definition has it: example by example, head by head, query by query."""
    query, key, value = (
        (X.astype(np.float64) @ params[name]["kernel"] + params[name]["bias"]).reshape(BATCH, TOKENS, heads, -1)
        for name in ("query", "key", "value")
    )
    if rotary:
        query, key = (
            np.asarray(rotate(jnp.asarray(each.swapaxes(1, 2), jnp.float32)), np.float64).swapaxes(1, 2)
            for each in (query, key)
        )
    mixed = np.zeros_like(value)
    for example, head, token in np.ndindex(BATCH, heads, TOKENS):
        seen = token + 1 if causal else TOKENS
        scores = key[example, :seen, head] @ query[example, token, head] / np.sqrt(WIDTH // heads)
        weights = np.exp(scores) / np.exp(scores).sum()
        mixed[example, token, head] = weights @ value[example, :seen, head]
    output: np.ndarray = mixed.reshape(BATCH, TOKENS, WIDTH) @ params["out"]["kernel"] + params["out"]["bias"]
    return output


@pytest.mark.parametrize("heads", [1, 2, 3])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("rotary", [False, True])
def test_attention(heads: int, causal: bool, rotary: bool) -> None:
    module = Attention(heads=heads, causal=causal, rotary=rotary)
    variables = numbers(jax.eval_shape(module.init, jax.random.key(0), X))
    want = by_loops(doubles(variables["params"]), heads=heads, causal=causal, rotary=rotary)
    np.testing.assert_allclose(np.asarray(module.apply(variables, X)), want, rtol=1e-4, atol=1e-5)
