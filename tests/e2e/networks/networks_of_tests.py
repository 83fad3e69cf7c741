"""Families that the tests name by import path, as an operator names their own."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from fluoroscope_server.families import Linen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Convolutions(nn.Module):
    """Two convolutions with batch norm; inference needs its running averages."""

    features: int

    @nn.compact
    def __call__(self, image: jax.Array, train: bool = True) -> jax.Array:
        for _ in range(2):
            image = nn.Conv(self.features, (3, 3))(image)
            image = nn.relu(nn.BatchNorm(use_running_average=not train)(image))
        return nn.Dense(3, name="head")(image.mean(axis=(1, 2)))


def convolutions(config: Mapping[str, Any]) -> Linen:
    return Linen(module=Convolutions(features=config["features"]), arguments={"train": False})


class Shift(nn.Module):
    """Adds a number."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return x + self.param("by", nn.initializers.normal(), ())


class Tower(nn.Module):
    """Layers that compute next to nothing, each of which gives as much as it takes."""

    depth: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for _ in range(self.depth):
            x = Shift()(x)
        return x[:, :1]


def tower(config: Mapping[str, Any]) -> Tower:
    return Tower(depth=config["depth"])


def rounded(_: Mapping[str, Any]) -> Callable[[Any, Mapping[str, jax.Array]], jax.Array]:
    """A network that takes and gives bfloat16."""
    return lambda variables, inputs: inputs["x"] * variables["by"].astype(jnp.bfloat16)


class Perceptron(nnx.Module):
    """An NNX network with dropout, so that its saved state holds keys of random streams, too."""

    def __init__(self, hidden: int, *, rngs: nnx.Rngs) -> None:
        self.first = nnx.Linear(5, hidden, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.second = nnx.Linear(hidden, 2, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.second(self.dropout(nnx.gelu(self.first(x))))


def perceptron(config: Mapping[str, Any]) -> Perceptron:
    hidden = int(config["hidden"])
    made: Perceptron = nnx.eval_shape(lambda: Perceptron(hidden, rngs=nnx.Rngs(0)))
    return made


def attention(variables: Any, inputs: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Returns softmax(tokens @ keys) and a value of it in bfloat16; `mask` picks rows."""
    scores = jnp.where(inputs["mask"][:, None], inputs["tokens"] @ variables["keys"]["kernel"], -1.0)
    weights = checkpoint_name(jax.nn.softmax(scores), "weights")
    return {"weights": weights, "halved": (weights / 2).astype(jnp.bfloat16)}


def function(_: Mapping[str, Any]) -> Callable[[Any, Mapping[str, jax.Array]], dict[str, jax.Array]]:
    return attention


def gated(config: Mapping[str, Any]) -> Callable[[Any, Mapping[str, jax.Array]], dict[str, jax.Array]]:
    """The same function, as soon as a file is there: a model that takes its time to load."""
    Path(config["arrived"]).touch()
    for _ in range(6000):
        if Path(config["gate"]).exists():
            return attention
        time.sleep(0.01)  # the gate is a file, opened by another process: there is no event to wait for
    raise TimeoutError("the gate never opened")
