"""The mean of a value along axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from fluoroscope_server.engine.reductions.arithmetic import count_present, power_of_two
from fluoroscope_server.engine.reductions.fitness import check_axes, check_real, normal_axes, shape_without
from fluoroscope_server.engine.reductions.reduction import Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    import jax

    from fluoroscope_server.engine.reductions.reduction import ValueSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """Computes the mean along axes, in float32. NaN and infinite elements make it NaN or infinite, as in NumPy."""

    axes: tuple[int, ...] = ()
    """The axes that it is taken along, and that the result lacks; negative ones count from the last, none means all."""

    numbers = ()
    is_summary = False

    def check(self, value: ValueSpec, *, field: str) -> None:
        """Refuses complex values, and axes that the value lacks."""
        check_real(value, what="means", field=field)
        check_axes(self.axes, value, field=f"{field}.mean.axes")

    def parts(self, value: ValueSpec) -> tuple[Part, ...]:
        """Returns the one tensor."""
        return (Part(dtype=np.dtype(np.float32), shape=shape_without(self.axes, value.shape)),)

    def compute(self, value: jax.Array, valid: jax.Array | None, numbers: jax.Array) -> tuple[jax.Array, ...]:  # noqa: ARG002 (there are none)
        """Returns the means. The sums are of numbers divided by a power of two, so that they do not overflow."""
        axes = normal_axes(self.axes, value.ndim)
        x = value.astype(jnp.float32)
        if valid is not None:
            x = jnp.where(valid, x, 0.0)
        scale, inverse = power_of_two(jnp.max(jnp.abs(x), axis=axes, initial=0.0))
        total = jnp.sum(x * jnp.expand_dims(inverse, axes), axis=axes)
        return (total / count_present(value, valid, axes).astype(jnp.float32) * scale,)

    def read(self, arrays: Sequence[np.ndarray], count: int) -> Any:
        """Is never called: the mean is a tensor."""
        raise NotImplementedError
