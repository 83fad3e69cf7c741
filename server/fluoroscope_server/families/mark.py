"""Marks: identity operations that give a value inside a network a name.

A mark is JAX's own `checkpoint_name`: an identity primitive that survives jit, scan, remat, vmap and
grad, and costs nothing in a compiled program. So the values that users named for a remat policy are
marked already.
"""

from __future__ import annotations

from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name

_MODULE = "fluoroscope.module:"


def mark_module_output(output: Any, path: str) -> Any:
    """Returns a module's output, a pytree, with each array in it marked by the path of the module.

    A single array is marked `path`; the arrays of a larger pytree `path/key`, by their place in it.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(output)
    marked = [
        checkpoint_name(leaf, _MODULE + _join(path, place)) if isinstance(leaf, jax.Array) else leaf
        for place, leaf in leaves
    ]
    return jax.tree.unflatten(structure, marked)


def module_path(mark: str) -> str | None:
    """Returns the path within the mark of a module's output; None for a mark that a user made."""
    return mark.removeprefix(_MODULE) if mark.startswith(_MODULE) else None


def _join(path: str, place: tuple[Any, ...]) -> str:
    return "/".join([path, *(jax.tree_util.keystr((key,), simple=True) for key in place)])
