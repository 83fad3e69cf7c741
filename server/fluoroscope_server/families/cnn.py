"""A convolutional network: residual blocks with batch norm, in stages of falling resolution.

Source: He et al., "Deep Residual Learning for Image Recognition", 2015, in the form for small images (section 4.2).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import flax.linen as nn

from fluoroscope_server.errors import ConfigError
from fluoroscope_server.families.activation import ACTIVATIONS
from fluoroscope_server.families.family_config import FamilyConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    import jax

    from fluoroscope_server.families.activation import Activation

_Convolution = partial(nn.Conv, use_bias=False, kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"))
"""Without a bias: the batch norm behind it has one."""


class ResidualBlock(nn.Module):
    """Two convolutions; what they find is added to what came in."""

    width: int
    """How many channels it gives."""

    stride: int
    """How many pixels of the input, along each side, become one."""

    act_fn: Activation
    """The activation function."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Returns an array of shape `(batch, height / stride, width / stride, channels)`."""
        norm = partial(nn.BatchNorm, use_running_average=not train)
        strides = (self.stride, self.stride)
        inner = _Convolution(self.width, (3, 3), strides=strides, name="conv_0")(x)
        inner = self.act_fn(norm(name="norm_0")(inner))
        inner = norm(name="norm_1")(_Convolution(self.width, (3, 3), name="conv_1")(inner))
        if x.shape != inner.shape:
            x = norm(name="shortcut_norm")(_Convolution(self.width, (1, 1), strides=strides, name="shortcut")(x))
        return self.act_fn(x + inner)


class Stage(nn.Module):
    """Residual blocks of one resolution, of which the first may lower it."""

    width: int
    """How many channels each block gives."""

    blocks: int
    """How many blocks."""

    stride: int
    """The stride of the first block."""

    act_fn: Activation
    """The activation function."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Returns an array of shape `(batch, height / stride, width / stride, channels)`."""
        for index in range(self.blocks):
            stride = 1 if index else self.stride
            x = ResidualBlock(width=self.width, stride=stride, act_fn=self.act_fn, name=f"blocks_{index}")(x, train)
        return x


class ConvolutionalNetwork(nn.Module):
    """Stages of residual blocks, then the mean over all pixels, then one dense layer.

    A server uses the statistics that batch norm stored while it was trained, in the collection `batch_stats`. To train
    it, call it with `train=True` and `mutable=["batch_stats"]`.
    """

    widths: tuple[int, ...]
    """How many channels each stage has. From stage to stage, height and width are halved."""

    blocks: tuple[int, ...]
    """How many blocks each stage has."""

    num_classes: int
    """How many logits."""

    act_fn: Activation
    """The activation function."""

    @nn.compact
    def __call__(self, image: jax.Array, train: bool = False) -> jax.Array:
        """Returns the logits, `(batch, num_classes)`, of images of shape `(batch, height, width, channels)`."""
        if image.ndim != 4:
            raise ValueError(f"an image has the shape [height, width, channels], not {list(image.shape[1:])}")
        x = _Convolution(self.widths[0], (3, 3), name="stem")(image)
        x = self.act_fn(nn.BatchNorm(use_running_average=not train, name="stem_norm")(x))
        for index, (width, blocks) in enumerate(zip(self.widths, self.blocks, strict=True)):
            stride = 2 if index else 1
            stage = Stage(width=width, blocks=blocks, stride=stride, act_fn=self.act_fn, name=f"stages_{index}")
            x = stage(x, train)
        logits: jax.Array = nn.Dense(self.num_classes, name="head")(x.mean(axis=(1, 2)))
        return logits


DEFAULTS: dict[str, Any] = {"widths": (16, 32, 64), "blocks": (3, 3, 3), "num_classes": 10, "act_fn": "relu"}
"""What a config can say, and what holds unless it does."""


def build(config: Mapping[str, Any]) -> ConvolutionalNetwork:
    """Makes the network: `widths`, `blocks`, `num_classes` and `act_fn`, all with defaults.

    Raises:
        ConfigError: a key is unknown, a value is, or `widths` and `blocks` are not of one length.
    """
    options = FamilyConfig(family="cnn", given=config, defaults=DEFAULTS)
    widths, blocks = options.sizes("widths"), options.sizes("blocks")
    if not widths or len(widths) != len(blocks):
        raise ConfigError(
            "cnn's widths and blocks must have one size for each stage, and one stage at least; "
            f"there are {len(widths)} widths and {len(blocks)} blocks"
        )
    return ConvolutionalNetwork(
        widths=widths,
        blocks=blocks,
        num_classes=options.size("num_classes"),
        act_fn=options.choice("act_fn", ACTIVATIONS),
    )
