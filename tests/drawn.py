"""Weights that no initializer would give."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def numbers(tree: Any) -> Any:
    """Returns a tree of positive and negative numbers (only positive ones as a variance).

    Nothing is zero or one, as biases and running averages begin: a mistake in one of them would not show.
    """
    generator = np.random.default_rng(5)

    def leaf(path: Any, spec: jax.ShapeDtypeStruct) -> jax.Array:
        values = generator.normal(scale=0.3, size=spec.shape)
        return jnp.asarray(np.abs(values) + 0.5 if "var" in jax.tree_util.keystr(path) else values, spec.dtype)

    return jax.tree_util.tree_map_with_path(leaf, tree)


def doubles(tree: Any) -> Any:
    """Returns a tree as NumPy arrays in float64, to compute with what a result should be."""
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)
