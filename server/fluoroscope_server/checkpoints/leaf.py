"""The arrays of a tree by path: what each one is, and which conversions are allowed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from fluoroscope_server.errors import CheckpointError
from fluoroscope_server.signature import describe

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafSpec:
    """What an array is, without its values."""

    shape: tuple[int, ...]
    """The size of each axis, outermost first."""

    dtype: np.dtype
    """The type of each element; a typed PRNG key keeps JAX's own dtype, `key<fry>`."""

    def __str__(self) -> str:
        """Returns the spec for people: `float32[784, 512]`."""
        return describe(self.dtype, self.shape)


def leaf_path(keys: Iterable[Any]) -> str:
    """Returns the path of a leaf: `params/Dense_0/kernel`.

    The key of a dict, the index of a list and the name of an attribute are written alike, so that a list that
    was saved as a dict of `'0'`, `'1'`, ... is found again, and so is a key that is a path itself (`a/b`).
    """
    return jax.tree_util.keystr(tuple(keys), simple=True, separator="/")


def by_path(tree: Any) -> dict[str, Any]:
    """Returns the leaves of a pytree by path, in the order of the tree.

    Raises:
        CheckpointError: if two leaves have the same path.
    """
    leaves: dict[str, Any] = {}
    for keys, leaf in jax.tree_util.tree_leaves_with_path(tree):
        path = leaf_path(keys)
        if path in leaves:
            raise CheckpointError(f"two leaves of the tree have the path {path!r}; rename one of them")
        leaves[path] = leaf
    return leaves


def is_key(spec: LeafSpec) -> bool:
    """Returns whether the leaf is a typed PRNG key."""
    return bool(jnp.issubdtype(spec.dtype, jax.dtypes.prng_key))


def converts(stored: LeafSpec, expected: LeafSpec) -> bool:
    """Returns whether a stored array may be read as the expected one.

    Shapes must be equal. Any float may become any other float (weights saved in float32 are often served in
    bfloat16), an integer only a type that holds all of its values; nothing crosses from one kind to another.
    """
    if is_key(expected):
        return stored.dtype == np.uint32 and stored.shape[:-1] == expected.shape
    if stored.shape != expected.shape:
        return False
    if stored.dtype == expected.dtype:
        return True
    if jnp.issubdtype(stored.dtype, jnp.integer) and jnp.issubdtype(expected.dtype, jnp.integer):
        return np.can_cast(stored.dtype, expected.dtype, casting="safe")
    return any(
        jnp.issubdtype(stored.dtype, kind) and jnp.issubdtype(expected.dtype, kind)
        for kind in (jnp.floating, jnp.complexfloating)
    )
