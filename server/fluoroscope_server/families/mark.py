"""Marks: identity operations that give a value inside a network a name.

A mark is JAX's own `checkpoint_name`: an identity primitive that survives jit, scan, remat, vmap and
grad, and costs nothing in a compiled program. So the values that users named for a remat policy are
marked already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
from jax.ad_checkpoint import checkpoint_name

if TYPE_CHECKING:
    from collections.abc import Mapping

_MODULE = "fluoroscope.module:"
_INPUT = "fluoroscope.input:"


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


def mark_module_inputs(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], path: str
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Returns the arguments of a module, with each that is an array marked by the path of the module.

    What is marked is `path/input` if it is the only array, else `path/input/0` or `path/input/name`. Containers are
    left alone: a module may fill a list that its caller keeps.
    """
    alone = sum(map(_is_array, (*args, *kwargs.values()))) == 1

    def mark(value: Any, name: int | str) -> Any:
        if not _is_array(value):
            return value
        return checkpoint_name(value, f"{_INPUT}{path}/input" + ("" if alone else f"/{name}"))

    marked = tuple(mark(value, number) for number, value in enumerate(args))
    return marked, {name: mark(value, name) for name, value in kwargs.items()}


def input_path(mark: str) -> str | None:
    """Returns the path within the mark of a module's input; None for any other mark."""
    return mark.removeprefix(_INPUT) if mark.startswith(_INPUT) else None


def module_path(mark: str) -> str | None:
    """Returns the path within the mark of a module's output; None for a mark that a user made."""
    return mark.removeprefix(_MODULE) if mark.startswith(_MODULE) else None


def _is_array(value: Any) -> bool:
    return isinstance(value, jax.Array) and not jax.numpy.issubdtype(value.dtype, jax.dtypes.extended)


def _join(path: str, place: tuple[Any, ...]) -> str:
    return "/".join([path, *(jax.tree_util.keystr((key,), simple=True) for key in place)])
