"""Rotary positions: where a token stands, as an angle by which its queries and keys are turned.

Source: Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021; the halves of a head are
paired, as in GPT-NeoX.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp

if TYPE_CHECKING:
    import jax

BASE = 10000.0
"""The slowest pair of numbers turns once in about `2 * pi * BASE` tokens."""


def rotate(x: jax.Array) -> jax.Array:
    """Turns each pair of numbers of each head by an angle that grows with the position of its token.

    So the product of a query and a key depends on how far they are apart, and not on where they are.

    Args:
        x: queries or keys, of shape `(batch, heads, tokens, size)`, of even size.

    Returns:
        An array of that shape and dtype.
    """
    tokens, half = x.shape[-2], x.shape[-1] // 2
    speeds = BASE ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles = (jnp.arange(tokens, dtype=jnp.float32)[:, None] * speeds[None, :])[None, None]
    cos, sin = jnp.cos(angles).astype(x.dtype), jnp.sin(angles).astype(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
