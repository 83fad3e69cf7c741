"""Another data type for what a reduction gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np

from fluoroscope_server.engine.reductions.reduction import Part, ValueSpec
from fluoroscope_server.errors import InvalidRequestError
from fluoroscope_server.signature import BATCH

if TYPE_CHECKING:
    from collections.abc import Sequence

    import jax

    from fluoroscope_server.engine.reductions.reduction import Reduction

INT8 = np.dtype(np.int8)
"""The type whose numbers come with a scale."""

TYPES: tuple[np.dtype, ...] = tuple(
    np.dtype(each)
    for each in (
        np.float32,
        np.float16,
        ml_dtypes.bfloat16,
        ml_dtypes.float8_e3m4,
        ml_dtypes.float8_e4m3,
        ml_dtypes.float8_e4m3b11fnuz,
        ml_dtypes.float8_e4m3fn,
        ml_dtypes.float8_e4m3fnuz,
        ml_dtypes.float8_e5m2,
        ml_dtypes.float8_e5m2fnuz,
        INT8,
    )
)
"""The types that values can be cast to."""

_GREATEST = 127
_NAN = -128


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """A reduction whose tensors come in another type. Counts and indices stay what they are.

    A float is rounded to the nearest; beyond what the type holds it becomes infinite, or NaN where the type has no
    infinity. As int8, a tensor is numbers from -127 to 127 and a scale, and the value is about their product: infinite
    elements are the greatest of their sign, and NaN is -128, which no number is.
    """

    reduction: Reduction
    """What is computed; it gives tensors."""

    dtype: np.dtype
    """One of `TYPES`."""

    is_summary = False

    @property
    def numbers(self) -> tuple[float, ...]:
        """The numbers of the reduction."""
        return self.reduction.numbers

    def check(self, value: ValueSpec, *, field: str) -> None:
        """Refuses what the reduction refuses, and complex tensors."""
        self.reduction.check(value, field=field)
        for part in self.reduction.parts(value):
            if not part.exact and np.issubdtype(part.dtype, np.complexfloating):
                raise InvalidRequestError(
                    f"site {value.site!r} is {value.dtype}, which no cast to {self.dtype} can hold: capture it uncast",
                    field=f"{field.partition('.')[0]}.data_type",
                )

    def parts(self, value: ValueSpec) -> tuple[Part, ...]:
        """Returns the parts of the reduction in the other type; each that becomes int8 is followed by its scale."""
        return tuple(each for part in self.reduction.parts(value) for each in self._parts_of(part))

    def compute(self, value: jax.Array, valid: jax.Array | None, numbers: jax.Array) -> tuple[jax.Array, ...]:
        """Returns the arrays of the reduction in the other type, and the scales."""
        arrays = self.reduction.compute(value, valid, numbers)
        parts = self.reduction.parts(_spec_of(value, valid))
        cast: list[jax.Array] = []
        for part, array in zip(parts, arrays, strict=True):
            if len(self._parts_of(part)) == 2:
                cast += _quantized(array, _valid_rows(part, valid))
            else:
                cast.append(array if part.exact else array.astype(self.dtype))
        return tuple(cast)

    def read(self, arrays: Sequence[np.ndarray], count: int) -> Any:
        """Is never called: what is cast is a tensor."""
        raise NotImplementedError

    def _parts_of(self, part: Part) -> tuple[Part, ...]:
        if part.exact or part.dtype == self.dtype:
            return (part,)
        if self.dtype != INT8:
            return (Part(name=part.name, dtype=self.dtype, shape=part.shape),)
        return (
            Part(name=part.name or "value", dtype=INT8, shape=part.shape),
            Part(name=f"{part.name}_scale" if part.name else "scale", dtype=np.dtype(np.float32), shape=()),
        )


def _spec_of(value: jax.Array, valid: jax.Array | None) -> ValueSpec:
    """Returns what the value was announced as; a batch of one row has no rows that only fill a bucket."""
    masked = [] if valid is None else [axis for axis, size in enumerate(valid.shape) if size > 1]
    shape = tuple(BATCH if axis in masked else size for axis, size in enumerate(value.shape))
    return ValueSpec(site="", dtype=value.dtype, shape=shape)


def _valid_rows(part: Part, valid: jax.Array | None) -> jax.Array | None:
    if valid is None or BATCH not in part.shape:
        return None
    return valid.reshape([-1 if size == BATCH else 1 for size in part.shape])


def _quantized(array: jax.Array, valid: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    x = array.astype(jnp.float32)
    finite = jnp.isfinite(x) if valid is None else jnp.isfinite(x) & valid
    scale = jnp.max(jnp.where(finite, jnp.abs(x), 0.0), initial=0.0) / _GREATEST
    scale = jnp.where(scale > 0, scale, 1.0)  # all zero, or nearly
    rounded = jnp.clip(jnp.round(x / scale), -_GREATEST, _GREATEST)
    return jnp.where(jnp.isnan(x), _NAN, rounded).astype(jnp.int8), scale
