"""Whether the weights of a network, or its outputs, are finite."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from fluoroscope_server.families import Variables


def nonfinite_leaves(variables: Variables) -> dict[str, tuple[int, int]]:
    """Counts NaN and infinite elements on the device; what can hold neither is not looked at.

    Args:
        variables: a pytree of arrays.

    Returns:
        How many elements are NaN, and how many infinite, by the path of each leaf that has any. Counts above 2^24
        are rounded.
    """
    leaves = {
        jax.tree_util.keystr(place, simple=True, separator="/"): leaf
        for place, leaf in jax.tree_util.tree_leaves_with_path(variables)
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
    }
    counts = {path: _count(leaf) for path, leaf in leaves.items()}  # all are under way before the first is waited for
    found = {path: np.asarray(count) for path, count in counts.items()}
    return {path: (int(nan), int(infinite)) for path, (nan, infinite) in found.items() if nan or infinite}


@jax.jit
def _count(leaf: jax.Array) -> jax.Array:
    """Returns how many elements are NaN and infinite; one program for each shape and dtype, however many leaves."""
    small = jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.dtype.itemsize < 4
    x = leaf.astype(jnp.float32) if small else leaf
    return jnp.stack([jnp.sum(each, dtype=jnp.float32) for each in (jnp.isnan(x), jnp.isinf(x))])  # cannot wrap to 0
