"""A Vision Transformer: an image as a sequence of patches.

Source: Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale", 2020.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax.numpy as jnp

from fluoroscope_server.families.activation import ACTIVATIONS
from fluoroscope_server.families.attention import Attention
from fluoroscope_server.families.block import Mlp, read_heads, run_block
from fluoroscope_server.families.family_config import FamilyConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    import jax

    from fluoroscope_server.families.activation import Activation

_HAS_CLASS_TOKEN = {"class_token": True, "mean": False}
"""How the tokens become one vector: what a class token has gathered, or their mean."""


class Embedding(nn.Module):
    """Cuts an image into patches, and makes each a token that knows its place."""

    patch_size: int
    """How many pixels each side of a patch has."""

    width: int
    """How many numbers each token has."""

    class_token: bool
    """Whether a token of no patch comes first."""

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """Returns tokens, `(batch, tokens, width)`, of images of shape `(batch, height, width, channels)`.

        Patches are numbered along the rows of the image, from its upper left corner.
        """
        sides = (self.patch_size, self.patch_size)
        if image.ndim != 4 or image.shape[1] % self.patch_size or image.shape[2] % self.patch_size:
            raise ValueError(
                "an image has the shape [height, width, channels], with a height and a width that are multiples of "
                f"patch_size, {self.patch_size}; not {list(image.shape[1:])}"
            )
        x = nn.Conv(self.width, sides, strides=sides, padding="VALID", name="patches")(image)
        x = x.reshape(image.shape[0], -1, self.width)
        if self.class_token:
            token = self.param("class_token", nn.initializers.zeros, (1, 1, self.width))
            # Added to zeros, not broadcast: so a batch of one has the same equations, and sites, as any other.
            x = jnp.concatenate([jnp.zeros_like(x[:, :1]) + token, x], axis=1)
        output: jax.Array = x + self.param("positions", nn.initializers.normal(0.02), (1, *x.shape[1:]))
        return output


class Layer(nn.Module):
    """A block in which each token sees all tokens."""

    heads: int
    """How many heads the attention has."""

    hidden: int
    """How many units the MLP has inside."""

    act_fn: Activation
    """The activation function of the MLP."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns the stream after this block, of the shape of `x`, `(batch, tokens, width)`."""
        attention = Attention(heads=self.heads, name="attn")
        return run_block(x, attention=attention, mlp=Mlp(hidden=self.hidden, act_fn=self.act_fn, name="mlp"))


class VisionTransformer(nn.Module):
    """Patches as tokens, blocks, then one dense layer."""

    patch_size: int
    """How many pixels each side of a patch has."""

    width: int
    """How many numbers each token has."""

    depth: int
    """How many blocks."""

    heads: int
    """How many heads the attention of each block has."""

    mlp_ratio: int
    """How many times as wide as a token the MLP of each block is inside."""

    num_classes: int
    """How many logits."""

    class_token: bool
    """Whether a token of its own, the first, gathers what the head reads; else the head reads the mean of all."""

    act_fn: Activation
    """The activation function of the MLPs."""

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """Returns the logits, `(batch, num_classes)`, of images of shape `(batch, height, width, channels)`."""
        embed = Embedding(patch_size=self.patch_size, width=self.width, class_token=self.class_token, name="embed")
        x = embed(image)
        hidden = self.mlp_ratio * self.width
        for index in range(self.depth):
            x = Layer(heads=self.heads, hidden=hidden, act_fn=self.act_fn, name=f"layers_{index}")(x)
        x = nn.LayerNorm(name="norm")(x)
        read = x[:, 0] if self.class_token else x.mean(axis=1)
        logits: jax.Array = nn.Dense(self.num_classes, name="head")(read)
        return logits


DEFAULTS: dict[str, Any] = {
    "patch_size": 4,
    "width": 256,
    "depth": 6,
    "heads": 8,
    "mlp_ratio": 4,
    "num_classes": 10,
    "pool": "class_token",
    "act_fn": "gelu",
}
"""What a config can say, and what holds unless it does."""


def build(config: Mapping[str, Any]) -> VisionTransformer:
    """Makes the network: the keys of `DEFAULTS`.

    Raises:
        ConfigError: a key is unknown, a value is, or `width` is no multiple of `heads`.
    """
    options = FamilyConfig(family="vit", given=config, defaults=DEFAULTS)
    return VisionTransformer(
        patch_size=options.size("patch_size"),
        width=options.size("width"),
        depth=options.size("depth"),
        heads=read_heads(options),
        mlp_ratio=options.size("mlp_ratio"),
        num_classes=options.size("num_classes"),
        class_token=options.choice("pool", _HAS_CLASS_TOKEN),
        act_fn=options.choice("act_fn", ACTIVATIONS),
    )
