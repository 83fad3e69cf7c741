"""Functions that return nothing twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Once:
    """A function, as it is compiled: an array that it would return in several places is returned once.

    A captured value is often needed by the next stage, too, and XLA would make a copy of it for that.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        """Takes a function to be traced by JAX, once."""
        self._function = function
        self._places: list[int] = []
        self._structure: Any = None

    def __call__(self, *arguments: Any) -> tuple[jax.Array, ...]:
        """Returns the arrays of the function's result, each once."""
        leaves, self._structure = jax.tree.flatten(self._function(*arguments))
        different = {id(leaf): leaf for leaf in leaves}
        numbers = {key: number for number, key in enumerate(different)}
        self._places = [numbers[id(leaf)] for leaf in leaves]
        return tuple(different.values())

    def whole(self, arrays: Sequence[Any]) -> Any:
        """Returns the function's result, given what was returned of it."""
        return jax.tree.unflatten(self._structure, [arrays[place] for place in self._places])
