"""The greatest elements along the last axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from fluoroscope_server.engine.reductions.fitness import check_real, check_units
from fluoroscope_server.engine.reductions.reduction import Part
from fluoroscope_server.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fluoroscope_server.engine.reductions.reduction import ValueSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class TopK:
    """Finds the `k` greatest elements along the last axis and where they are, the greatest first.

    NaN counts as greater than all numbers, as in NumPy's order, so that nobody overlooks it. Of equal elements the
    one with the lower index comes first.
    """

    k: int
    """How many."""

    numbers = ()
    is_summary = False

    def check(self, value: ValueSpec, *, field: str) -> None:
        """Refuses complex values, and axes that are shorter than `k`."""
        check_real(value, what="the greatest elements", field=field)
        check_units(value, what="the greatest elements", field=field)
        if self.k > value.shape[-1]:
            raise InvalidRequestError(
                f"k is {self.k}, and the last axis of site {value.site!r} has {value.shape[-1]} elements",
                field=f"{field}.top_k.k",
            )

    def parts(self, value: ValueSpec) -> tuple[Part, ...]:
        """Returns the values, and their indices in the last axis."""
        shape = (*value.shape[:-1], self.k)
        return (
            Part(name="values", dtype=value.dtype, shape=shape),
            Part(name="indices", dtype=np.dtype(np.int32), shape=shape, exact=True),
        )

    def compute(self, value: jax.Array, valid: jax.Array | None, numbers: jax.Array) -> tuple[jax.Array, ...]:  # noqa: ARG002 (rows are cut off when sent)
        """Returns the values and the indices."""
        _, indices = jax.lax.top_k(_sortable(value), self.k)
        return jnp.take_along_axis(value, indices, axis=-1), indices

    def read(self, arrays: Sequence[np.ndarray], count: int) -> Any:
        """Is never called: the parts are tensors."""
        raise NotImplementedError


def _sortable(value: jax.Array) -> jax.Array:
    """Returns a value that the device orders as this one is to be: one NaN, one zero, a type that it sorts."""
    if jnp.issubdtype(value.dtype, jnp.floating):
        wide = value if value.dtype == jnp.float64 else value.astype(jnp.float32)
        wide = jnp.where(wide == 0, jnp.zeros((), wide.dtype), wide)
        return jnp.where(jnp.isnan(wide), jnp.asarray(jnp.nan, wide.dtype), wide)
    if value.dtype in (jnp.uint32, jnp.int64, jnp.uint64):
        return value
    return value.astype(jnp.int32)
