"""What edits compute. Traced by JAX: a part of the network from then on."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import jax.numpy as jnp

from fluoroscope_server.engine.plan import Operation
from fluoroscope_server.engine.reductions.arithmetic import count, power_of_two, widened

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import jax

    from fluoroscope_server.engine.plan import PlannedEdit

Array: TypeAlias = "jax.Array"


def change_of(edit: PlannedEdit, *, depth: int) -> Callable[..., Array]:
    """Returns the function of an edit: `(value, *arguments) -> value`.

    The arguments are the value of a second run, if there is one, what the operation is given, if anything, and a mask
    for each masked axis. Of a value in as many loops as `depth` says, they are those of one iteration.
    """

    def change(value: Array, *arguments: Array) -> Array:
        masks = arguments[len(arguments) - len(edit.masked) :]
        axis = 0 if edit.batch_axis is None else edit.batch_axis - depth
        new = _COMPUTED[edit.operation](value, arguments[: len(arguments) - len(masks)], axis)
        where: Array | None = None
        for masked, mask in zip(edit.masked, masks, strict=True):
            own = _along(masked - depth, mask, value)
            where = own if where is None else where & own
        return new if where is None else jnp.where(where, new, value)

    return change


def _mean(value: Array, valid: Array, axis: int) -> Array:
    """Returns the mean of the valid rows, in each row; computed in float32, or float64 where the value is.

    The sums of float32 are of numbers divided by a power of two, so that they do not overflow.
    """
    wide = widened(value)
    present = jnp.where(_along(axis, valid, value), wide, jnp.zeros((), wide.dtype))
    rows = count(valid).astype(wide.dtype)
    if wide.dtype == jnp.float32:
        scale, inverse = power_of_two(jnp.max(jnp.abs(present), axis=axis, keepdims=True))
        mean = jnp.sum(present * inverse, axis=axis, keepdims=True) / rows * scale
    else:
        mean = jnp.sum(present, axis=axis, keepdims=True) / rows
    return jnp.broadcast_to(mean.astype(value.dtype), value.shape)


def _along(axis: int, mask: Array, value: Array) -> Array:
    """Returns a mask of one axis with as many axes as the value; one of an iteration, a negative axis, has none."""
    return mask.reshape([size if each == axis else 1 for each, size in enumerate(value.shape)])


_COMPUTED: dict[Operation, Callable[[Array, Sequence[Array], int], Array]] = {
    Operation.ZERO: lambda value, _, __: jnp.zeros_like(value),
    Operation.SET: lambda value, given, _: jnp.broadcast_to(given[0], value.shape),
    Operation.ADD: lambda value, given, _: value + given[0],
    Operation.SCALE: lambda value, given, _: value * given[0],
    Operation.MEAN: lambda value, given, axis: _mean(value, given[0], axis),
    Operation.ROWS: lambda value, given, axis: jnp.take(value, given[0], axis=axis, mode="clip"),
    Operation.SOURCE: lambda _, given, axis: jnp.take(given[0], given[1], axis=axis, mode="clip"),
}
"""What each operation writes, in the shape and dtype of the value: of the value, what is given, and the batch axis."""
