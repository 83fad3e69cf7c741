"""Multi-head self-attention, written out, so that each step of it is a site."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from fluoroscope_server.families.rotary import rotate

# Products of matrices for each example and head. Not by `@`, which computes otherwise for a batch of one than for more.
_OVER_SIZE = (((3,), (3,)), ((0, 1), (0, 1)))
_OVER_TOKENS = (((3,), (2,)), ((0, 1), (0, 1)))


class Attention(nn.Module):
    """Each token takes a weighted mean of what all tokens offer.

    The weights, of shape `(batch, heads, tokens, tokens)`, are the site `softmax:0`; each of their rows sums to one.
    """

    heads: int
    """How many heads; they divide the width."""

    causal: bool = False
    """Whether a token sees only itself and those before it."""

    rotary: bool = False
    """Whether queries and keys are turned by their positions."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns an array of the shape of `x`, `(batch, tokens, width)`."""
        projected = [nn.Dense(x.shape[-1], name=name)(x) for name in ("query", "key", "value")]
        query, key, value = (_split(each, self.heads) for each in projected)
        if self.rotary:
            query, key = rotate(query), rotate(key)
        scores = jax.lax.dot_general(query, key, _OVER_SIZE) * query.shape[-1] ** -0.5
        if self.causal:
            scores = jnp.where(_earlier(x.shape[1]), scores, -jnp.inf)
        mixed = jax.lax.dot_general(nn.softmax(scores), value, _OVER_TOKENS)
        output: jax.Array = nn.Dense(x.shape[-1], name="out")(_joined(mixed))
        return output


def _split(x: jax.Array, heads: int) -> jax.Array:
    """Returns `(batch, tokens, width)` as `(batch, heads, tokens, width / heads)`."""
    return x.reshape(*x.shape[:-1], heads, -1).swapaxes(1, 2)


def _joined(x: jax.Array) -> jax.Array:
    """Returns `(batch, heads, tokens, size)` as `(batch, tokens, heads * size)`."""
    return x.swapaxes(1, 2).reshape(x.shape[0], x.shape[2], -1)


def _earlier(tokens: int) -> jax.Array:
    """Returns which keys (last axis) each query (the axis before it) sees, of shape `(1, 1, tokens, tokens)`."""
    return jnp.tril(jnp.ones((1, 1, tokens, tokens), bool))
