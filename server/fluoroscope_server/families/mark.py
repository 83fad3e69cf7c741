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

    An array is marked `path` if it is the only one; the arrays of a larger pytree `path/key`, by their place in it.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(output)
    alone = sum(isinstance(leaf, jax.Array) for _, leaf in leaves) == 1
    marked = [
        checkpoint_name(leaf, _MODULE + (path if alone else _join(path, place)))
        if isinstance(leaf, jax.Array)
        else leaf
        for place, leaf in leaves
    ]
    return jax.tree.unflatten(structure, marked)


def module_path(mark: str) -> str | None:
    """Returns the path within the mark of a module's output; None for a mark that a user made."""
    return mark.removeprefix(_MODULE) if mark.startswith(_MODULE) else None


def _join(path: str, place: tuple[Any, ...]) -> str:
    return "/".join([path, *(jax.tree_util.keystr((key,), simple=True) for key in place)])
