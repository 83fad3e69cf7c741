"""The norm of a value along axes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from fluoroscope_server.engine.reductions.arithmetic import power_of_two
from fluoroscope_server.engine.reductions.fitness import check_axes, normal_axes, shape_without
from fluoroscope_server.engine.reductions.reduction import Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    import jax

    from fluoroscope_server.engine.reductions.reduction import ValueSpec

ORDERS = (1.0, 2.0, math.inf)
"""The orders that there are: the sum of magnitudes, the root of the sum of squares, the greatest magnitude."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Norm:
    """Computes the norm along axes, in float32. NaN and infinite elements make it NaN or infinite, as in NumPy."""

    axes: tuple[int, ...] = ()
    """The axes that it is taken along, and that the result lacks; negative ones count from the last, none means all."""

    order: float = 2.0
    """One of `ORDERS`."""

    numbers = ()
    is_summary = False

    def check(self, value: ValueSpec, *, field: str) -> None:
        """Refuses axes that the value lacks."""
        check_axes(self.axes, value, field=f"{field}.norm.axes")

    def parts(self, value: ValueSpec) -> tuple[Part, ...]:
        """Returns the one tensor."""
        return (Part(dtype=np.dtype(np.float32), shape=shape_without(self.axes, value.shape)),)

    def compute(self, value: jax.Array, valid: jax.Array | None, numbers: jax.Array) -> tuple[jax.Array, ...]:  # noqa: ARG002 (there are none)
        """Returns the norms. The squares are of numbers divided by a power of two, so that they do not overflow."""
        axes = normal_axes(self.axes, value.ndim)
        magnitude = jnp.abs(value if jnp.iscomplexobj(value) else value.astype(jnp.float32)).astype(jnp.float32)
        if valid is not None:
            magnitude = jnp.where(valid, magnitude, 0.0)
        if self.order == 1.0:
            return (jnp.sum(magnitude, axis=axes),)
        greatest = jnp.max(magnitude, axis=axes, initial=0.0)
        if self.order == math.inf:
            return (greatest,)
        scale, inverse = power_of_two(greatest)
        scaled = magnitude * jnp.expand_dims(inverse, axes)
        return (jnp.sqrt(jnp.sum(jnp.square(scaled), axis=axes)) * scale,)

    def read(self, arrays: Sequence[np.ndarray], count: int) -> Any:
        """Is never called: the norm is a tensor."""
        raise NotImplementedError
