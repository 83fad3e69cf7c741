"""A residual multilayer perceptron, written in NNX."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flax import nnx

from fluoroscope_server.families.activation import ACTIVATIONS
from fluoroscope_server.families.family_config import REQUIRED, FamilyConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    import jax

    from fluoroscope_server.families.activation import Activation


class ResidualLayer(nnx.Module):
    """A dense layer that reads a normalized copy of the stream, and adds to it."""

    def __init__(self, *, width: int, act_fn: Activation, rngs: nnx.Rngs) -> None:
        """Makes a layer for a stream of `width` numbers, with weights from `rngs`."""
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.linear = nnx.Linear(width, width, rngs=rngs)
        self.act_fn = act_fn

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns the stream after this layer, of the shape of `x`, `(batch, width)`."""
        return x + self.act_fn(self.linear(self.norm(x)))


class ResidualMlp(nnx.Module):
    """A dense layer to the stream's width, residual layers, a last norm, and a dense layer to the logits."""

    def __init__(
        self, *, in_features: int, width: int, depth: int, num_classes: int, act_fn: Activation, rngs: nnx.Rngs
    ) -> None:
        """Makes the network with weights from `rngs`.

        Args:
            in_features: how many numbers each example has.
            width: how many numbers the stream has.
            depth: how many residual layers.
            num_classes: how many logits.
            act_fn: the activation function.
            rngs: the random streams.
        """
        self.in_features = in_features
        self.embed = nnx.Linear(in_features, width, rngs=rngs)
        self.layers = nnx.List([ResidualLayer(width=width, act_fn=act_fn, rngs=rngs) for _ in range(depth)])
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.head = nnx.Linear(width, num_classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns the logits, `(batch, num_classes)`, of examples of any shape, flattened first."""
        x = x.reshape(x.shape[0], -1)
        if x.shape[1] != self.in_features:
            raise ValueError(f"an example has {x.shape[1]} numbers, and in_features is {self.in_features}")
        x = self.embed(x)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


DEFAULTS: dict[str, Any] = {"in_features": REQUIRED, "width": 256, "depth": 4, "num_classes": 10, "act_fn": "relu"}
"""What a config can say, and what holds unless it does."""


def build(config: Mapping[str, Any]) -> ResidualMlp:
    """Makes the network: the keys of `DEFAULTS`. It is abstract: its weights are shapes, which a checkpoint fills.

    Raises:
        ConfigError: `in_features` is missing, a key is unknown, or a value is.
    """
    options = FamilyConfig(family="nnx_mlp", given=config, defaults=DEFAULTS)
    in_features, width, depth = (options.size(key) for key in ("in_features", "width", "depth"))
    num_classes, act_fn = options.size("num_classes"), options.choice("act_fn", ACTIVATIONS)
    network: ResidualMlp = nnx.eval_shape(
        lambda: ResidualMlp(
            in_features=in_features,
            width=width,
            depth=depth,
            num_classes=num_classes,
            act_fn=act_fn,
            rngs=nnx.Rngs(0),
        )
    )
    return network
