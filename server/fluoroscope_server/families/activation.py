"""The activation functions that a config can name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import flax.linen as nn
import jax

Activation: TypeAlias = Callable[[jax.Array], jax.Array]
"""A function of each number of an array."""

ACTIVATIONS: dict[str, Activation] = {
    "identity": lambda x: x,
    "sigmoid": nn.sigmoid,
    "tanh": nn.tanh,
    "relu": nn.relu,
    "leakyrelu": lambda x: nn.leaky_relu(x, negative_slope=0.1),
    "elu": nn.elu,
    "swish": nn.swish,
    "gelu": nn.gelu,
}
"""The activation functions by name: the six of the UvA notebooks, and two more."""
