"""The network as it was trained: the capture with no sites."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import jax

    from fluoroscope_server.engine.flat import FlatNetwork


def prediction(flat: FlatNetwork) -> Callable[[Any, Any], tuple[jax.Array, ...]]:
    """Returns the function from the leaves of the variables and the inputs to the outputs."""
    compute = flat.jaxpr.function()

    def predict(leaves: tuple[jax.Array, ...], inputs: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        return tuple(compute(*leaves, *inputs))

    return predict
