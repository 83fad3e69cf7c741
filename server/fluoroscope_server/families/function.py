"""Pure functions as networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax

from fluoroscope_server.errors import ConfigError
from fluoroscope_server.families.network import make_network

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from fluoroscope_server.families.network import Apply, Network, Variables
    from fluoroscope_server.model_config import ModelConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class PureFunction:
    """A pure function `(variables, inputs) -> outputs` and the variables that it needs."""

    apply: Apply
    """The function. `inputs` is a dict from name to array."""

    variables: Variables
    """The variables as a pytree of anything with a shape and a dtype."""


def function_network(function: PureFunction, config: ModelConfig) -> Network:
    """Makes a network of a pure function; its sites are its equations and the values it names.

    Raises:
        ConfigError: the function does not run on the inputs of the config.
    """
    try:
        variables = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), function.variables)
    except (AttributeError, TypeError) as error:
        raise ConfigError(f"each leaf of a function's variables must have a shape and a dtype: {error}") from error
    return make_network(function.apply, variables, config)


def nested(leaves: Mapping[str, tuple[tuple[int, ...], np.dtype]]) -> Variables:
    """Returns leaves named by slash paths as nested dicts of shapes: what a bare function gets.

    Unless JAX was told to have 64 bits, floats are of 32, and 64-bit integers are left out: they are no weights but
    what a trainer counts, and not all of their values would fit.
    """
    tree: dict[str, Any] = {}
    for path, (shape, stored) in leaves.items():
        dtype = jax.dtypes.canonicalize_dtype(stored, allow_extended_dtype=True)
        if dtype != stored and jax.numpy.issubdtype(stored, jax.numpy.integer):
            continue
        *folders, name = path.split("/")
        place = tree
        for folder in folders:
            place = place.setdefault(folder, {})
        place[name] = jax.ShapeDtypeStruct(shape, dtype)
    return tree
