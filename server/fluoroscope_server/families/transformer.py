"""A decoder-only transformer: for each token, what comes next. Its layers are one stack of weights under `nn.scan`.

Source: Radford et al., "Language Models are Unsupervised Multitask Learners", 2019 (GPT-2), with rotary positions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flax.linen as nn

from fluoroscope_server.errors import ConfigError
from fluoroscope_server.families.activation import ACTIVATIONS
from fluoroscope_server.families.attention import Attention
from fluoroscope_server.families.block import Mlp, read_heads, run_block
from fluoroscope_server.families.family_config import REQUIRED, FamilyConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    import jax

    from fluoroscope_server.families.activation import Activation


class Layer(nn.Module):
    """A block in which a token sees only itself and those before it, in the form that `nn.scan` calls."""

    heads: int
    """How many heads the attention has."""

    hidden: int
    """How many units the MLP has inside."""

    act_fn: Activation
    """The activation function of the MLP."""

    @nn.compact
    def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
        """Returns the stream after this block, of the shape of `x`, `(batch, tokens, width)`, and nothing to stack."""
        attention = Attention(heads=self.heads, causal=True, rotary=True, name="attn")
        mlp = Mlp(hidden=self.hidden, act_fn=self.act_fn, name="mlp")
        return run_block(x, attention=attention, mlp=mlp), None


class Transformer(nn.Module):
    """An embedding, blocks in which a token sees only those before it, then one dense layer to the vocabulary.

    Each weight of the blocks is stored once, with the layer as its first axis: `params/layers/mlp/up/kernel` has the
    shape `(depth, width, mlp_ratio * width)`.
    """

    vocab_size: int
    """How many tokens there are to choose from."""

    width: int
    """How many numbers each token has."""

    depth: int
    """How many blocks."""

    heads: int
    """How many heads the attention of each block has."""

    mlp_ratio: int
    """How many times as wide as a token the MLP of each block is inside."""

    act_fn: Activation
    """The activation function of the MLPs."""

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Returns the logits, `(batch, sequence, vocab_size)`, of token numbers of shape `(batch, sequence)`.

        The logits at a place are for the token after it. A number beyond the vocabulary makes all logits of its
        sequence NaN; a negative one counts from the end of the vocabulary.
        """
        if tokens.ndim != 2:
            raise ValueError(f"a sequence of tokens has the shape [sequence], not {list(tokens.shape[1:])}")
        x = nn.Embed(self.vocab_size, self.width, name="embed")(tokens)
        layers = nn.scan(Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=self.depth)
        hidden = self.mlp_ratio * self.width
        x, _ = layers(heads=self.heads, hidden=hidden, act_fn=self.act_fn, name="layers")(x, None)
        logits: jax.Array = nn.Dense(self.vocab_size, use_bias=False, name="head")(nn.LayerNorm(name="norm")(x))
        return logits


DEFAULTS: dict[str, Any] = {
    "vocab_size": REQUIRED,
    "width": 256,
    "depth": 6,
    "heads": 8,
    "mlp_ratio": 4,
    "act_fn": "gelu",
}
"""What a config can say, and what holds unless it does."""


def build(config: Mapping[str, Any]) -> Transformer:
    """Makes the network: the keys of `DEFAULTS`.

    Raises:
        ConfigError: `vocab_size` is missing, a key is unknown, a value is, or `width` is no even multiple of `heads`.
    """
    options = FamilyConfig(family="transformer", given=config, defaults=DEFAULTS)
    width, heads = options.size("width"), read_heads(options)
    if width // heads % 2:
        raise ConfigError(
            "transformer's heads must be of even size, because rotary positions turn pairs of numbers; "
            f"a width of {width} and {heads} heads make a size of {width // heads}"
        )
    return Transformer(
        vocab_size=options.size("vocab_size"),
        width=width,
        depth=options.size("depth"),
        heads=heads,
        mlp_ratio=options.size("mlp_ratio"),
        act_fn=options.choice("act_fn", ACTIVATIONS),
    )
