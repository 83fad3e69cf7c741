"""The block of transformers: what it adds to the stream, and which heads fit its width."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import numpy as np
import pytest

from fluoroscope_server.errors import ConfigError
from fluoroscope_server.families.activation import ACTIVATIONS
from fluoroscope_server.families.attention import Attention
from fluoroscope_server.families.block import Mlp, read_heads, run_block
from fluoroscope_server.families.family_config import FamilyConfig

from ...drawn import doubles, numbers

if TYPE_CHECKING:
    from collections.abc import Callable

X = np.random.default_rng(0).normal(size=(2, 5, 8)).astype(np.float32)


class Block(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        mlp = Mlp(hidden=24, act_fn=ACTIVATIONS["gelu"], name="mlp")
        return run_block(x, attention=Attention(heads=2, name="attn"), mlp=mlp)


def test_attention_and_mlp_are_added_to_the_stream(intermediates: Callable[..., dict[str, Any]]) -> None:
    block = Block()
    variables = numbers(jax.eval_shape(block.init, jax.random.key(0), X))
    found = intermediates(block, variables, X)
    between = X + found["attn"]
    np.testing.assert_allclose(found["__call__"], between + found["mlp"], rtol=1e-6, atol=1e-6)
    for read, norm in ((X, "attn_norm"), (between, "mlp_norm")):
        params = doubles(variables["params"][norm])
        centred = read - read.mean(-1, keepdims=True, dtype=np.float64)
        want = centred / np.sqrt(centred.var(-1, keepdims=True) + 1e-6) * params["scale"] + params["bias"]
        np.testing.assert_allclose(found[norm], want, rtol=1e-4, atol=1e-5)


def test_mlp() -> None:
    mlp = Mlp(hidden=7, act_fn=ACTIVATIONS["tanh"])
    variables = numbers(jax.eval_shape(mlp.init, jax.random.key(0), X))
    up, down = (doubles(variables["params"][name]) for name in ("up", "down"))
    inner = np.tanh(X.astype(np.float64) @ up["kernel"] + up["bias"])
    found = np.asarray(mlp.apply(variables, X))
    np.testing.assert_allclose(found, inner @ down["kernel"] + down["bias"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("width", "heads"), [(8, 3), (2, 4), (256, 7)])
def test_heads_must_divide_the_width(width: int, heads: int) -> None:
    options = FamilyConfig(family="net", given={"width": width, "heads": heads}, defaults={"width": 1, "heads": 1})
    message = f"^net's width must be a multiple of its heads, and {width} is no multiple of {heads}$"
    with pytest.raises(ConfigError, match=message):
        read_heads(options)
