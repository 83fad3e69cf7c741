"""Units that do nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from fluoroscope_server.engine.reductions.fitness import check_units
from fluoroscope_server.engine.reductions.reduction import Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    import jax

    from fluoroscope_server.engine.reductions.reduction import ValueSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadUnits:
    """Counts how often each unit is zero: over all examples and positions, for each index of the last axis.

    A unit is dead if it is zero as often as there are samples. Counts, and not a list of the dead, are what can be
    added up over the batches of a data set, and they show the units that are nearly dead too.
    """

    numbers = ()
    is_summary = False

    def check(self, value: ValueSpec, *, field: str) -> None:
        """Refuses values without an axis of units."""
        check_units(value, what="dead units", field=field)

    def parts(self, value: ValueSpec) -> tuple[Part, ...]:
        """Returns the one tensor of counts."""
        return (Part(dtype=np.dtype(np.int32), shape=value.shape[-1:], exact=True),)

    def compute(self, value: jax.Array, valid: jax.Array | None, numbers: jax.Array) -> tuple[jax.Array, ...]:  # noqa: ARG002 (there are none)
        """Returns how often each unit is zero. NaN is not zero."""
        zero = value == jnp.zeros((), value.dtype)
        if valid is not None:
            zero &= valid
        return (jnp.sum(zero, axis=tuple(range(value.ndim - 1)), dtype=jnp.int32),)

    def read(self, arrays: Sequence[np.ndarray], count: int) -> Any:
        """Is never called: the counts are a tensor."""
        raise NotImplementedError
