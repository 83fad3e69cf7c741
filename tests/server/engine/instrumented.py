"""A network that is served, and the same one written out by hand, with a place at each value to look and to write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

LAYERS = 4


class Block(nn.Module):
    """A residual block; under scan, the carry is what goes through."""

    @nn.compact
    def __call__(self, x: jax.Array, _: Any = None) -> Any:
        up = nn.relu(nn.Dense(6, name="up")(x))
        return x + nn.Dense(4, name="down")(up), None


class Stack(nn.Module):
    """Blocks under scan, between two layers."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(nn.Dense(4, name="embed")(x))
        scanned = nn.scan(Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=LAYERS)
        x, _ = scanned(name="layers")(x, None)
        head: jax.Array = nn.Dense(3, name="head")(x)
        return head


def as_float64(variables: Any) -> Any:
    """Returns the weights of a stack in NumPy."""
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])


def by_hand(
    params: Any,
    x: Any,
    edit: Callable[[str, Any], Any] = lambda _, value: value,
    relu: Callable[[Any], Any] = lambda value: np.maximum(value, 0),
) -> dict[str, Any]:
    """Computes the stack, in NumPy unless it is given JAX's arrays; returns each value, by the path of its site.

    `edit` is given each value with its path, and returns what the network goes on with.
    """
    values: dict[str, Any] = {}

    def at(path: str, value: Any) -> Any:
        values[path] = edit(path, value)
        return values[path]

    def dense(name: str, weights: Any, value: Any) -> Any:
        return at(name, value @ weights["kernel"] + weights["bias"])

    x = at("relu:0", relu(dense("embed", params["embed"], x)))
    for layer in range(LAYERS):
        own = jax.tree.map(lambda leaf, layer=layer: leaf[layer], params["layers"])
        up = at(f"layers[{layer}]/relu:0", relu(dense(f"layers[{layer}]/up", own["up"], x)))
        x = at(f"layers[{layer}]", x + dense(f"layers[{layer}]/down", own["down"], up))
    dense("head", params["head"], x)
    values["__call__"] = values["head"]
    return values
