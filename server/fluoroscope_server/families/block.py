"""The block that transformers are a stack of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import flax.linen as nn
from jax.ad_checkpoint import checkpoint_name

from fluoroscope_server.errors import ConfigError

if TYPE_CHECKING:
    import jax

    from fluoroscope_server.families.activation import Activation
    from fluoroscope_server.families.attention import Attention
    from fluoroscope_server.families.family_config import FamilyConfig


class Mlp(nn.Module):
    """Two dense layers, an activation function between them, for each token alone.

    What the activation function gives, `(batch, tokens, hidden)`, is the site `hidden`.
    """

    hidden: int
    """How many units are between the layers."""

    act_fn: Activation
    """The activation function."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns an array of the shape of `x`, `(batch, tokens, width)`."""
        inner = checkpoint_name(self.act_fn(nn.Dense(self.hidden, name="up")(x)), "hidden")
        output: jax.Array = nn.Dense(x.shape[-1], name="down")(inner)
        return output


def run_block(x: jax.Array, *, attention: Attention, mlp: Mlp) -> jax.Array:
    """Runs attention, then an MLP, as parts of the module that calls this; each adds to the stream.

    What they read is normalized, by parts of that module called `attn_norm` and `mlp_norm`. A function, because a block
    has one form in a stack and another under `nn.scan`.

    Args:
        x: the stream, of shape `(batch, tokens, width)`.
        attention: the attention.
        mlp: the MLP.

    Returns:
        The stream after this block, of the same shape.
    """
    x = x + attention(nn.LayerNorm(name="attn_norm")(x))
    output: jax.Array = x + mlp(nn.LayerNorm(name="mlp_norm")(x))
    return output


def read_heads(options: FamilyConfig) -> int:
    """Returns the `heads` of a config, which must divide its `width`; raises ConfigError."""
    width, heads = options.size("width"), options.size("heads")
    if width % heads:
        raise ConfigError(
            f"{options.family}'s width must be a multiple of its heads, and {width} is no multiple of {heads}"
        )
    return heads
