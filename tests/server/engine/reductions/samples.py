"""Values to reduce: of many shapes and types, with rows that only fill a bucket and must never count."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from fluoroscope_server.engine import ValueSpec
from fluoroscope_server.signature import BATCH

if TYPE_CHECKING:
    from collections.abc import Callable

    from fluoroscope_server.engine import Reduction

DTYPES = ("float32", "bfloat16", "float8_e4m3fn", "int32", "int4", "bool")

SHAPES = ((6, 5), (4, 3, 5), (5,), (1, 4), (0, 4))

ODD = (np.nan, np.inf, -np.inf, 0.0, -0.0)


@cache
def _compiled(reduction: Any) -> Callable[..., tuple[jax.Array, ...]]:
    """Returns the computation of a reduction, compiled once for those that are equal, as in a server."""
    return jax.jit(reduction.compute)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One value, as the device has it and as it was asked about."""

    padded: np.ndarray
    """The value on the device; the rows of `axis` from `rows` on hold garbage."""

    axis: int | None
    """The batch axis; None if there is none, and all counts."""

    rows: int
    """How many rows of it count."""

    @property
    def kept(self) -> np.ndarray:
        """Returns what counts."""
        return self.padded if self.axis is None else self.padded.take(range(self.rows), self.axis)

    @property
    def wide(self) -> np.ndarray:
        """Returns what counts, in float64."""
        return self.kept.astype(np.float64)

    @property
    def spec(self) -> ValueSpec:
        """Returns what a reduction is told of the value."""
        shape = tuple(BATCH if axis == self.axis else size for axis, size in enumerate(self.padded.shape))
        return ValueSpec(site="Dense_0", dtype=self.padded.dtype, shape=shape)

    def reduce(self, reduction: Reduction) -> list[np.ndarray]:
        """Returns what the reduction leaves on the device, rows that only fill the bucket cut off."""
        reduction.check(self.spec, field="captures[0].reductions[0]")
        numbers = jnp.asarray(np.asarray(reduction.numbers, np.float32))
        hashed: Any = reduction  # every reduction is, being part of a plan
        arrays = _compiled(hashed)(jnp.asarray(self.padded), self._valid(), numbers)
        parts = reduction.parts(self.spec)
        if not parts:
            return [np.asarray(array) for array in arrays]
        assert len(arrays) == len(parts)
        return [
            self._trimmed(np.asarray(array), part.shape, part.dtype) for array, part in zip(arrays, parts, strict=True)
        ]

    def summary(self, reduction: Reduction) -> Any:
        """Returns the summary that a reduction gives."""
        return reduction.read(self.reduce(reduction), self.kept.size)

    def _valid(self) -> jax.Array | None:
        if self.axis is None:
            return None
        shape = [size if axis == self.axis else 1 for axis, size in enumerate(self.padded.shape)]
        return jnp.asarray((np.arange(self.padded.shape[self.axis]) < self.rows).reshape(shape))

    def _trimmed(self, array: np.ndarray, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        assert array.dtype == dtype
        sizes = tuple(self.padded.shape[self.axis or 0] if size == BATCH else size for size in shape)
        assert array.shape == sizes
        return array if BATCH not in shape else array.take(range(self.rows), shape.index(BATCH))


def float32(values: Any) -> np.ndarray:
    """Returns a float32 array of numbers, nested in lists."""
    return np.asarray(values, np.float32)


def sample(array: np.ndarray, *, axis: int | None = None, rows: int | None = None) -> Sample:
    """Returns a sample of an array; without `rows` all of it counts."""
    return Sample(padded=array, axis=axis, rows=array.shape[axis or 0] if rows is None and array.ndim else rows or 0)


@st.composite
def samples(
    draw: st.DrawFn, *, dtypes: tuple[str, ...] = DTYPES, shapes: tuple[tuple[int, ...], ...] = SHAPES, odd: bool = True
) -> Sample:
    """Draws values with NaN, infinities and zeros among them, and garbage in the rows that do not count."""
    dtype = np.dtype(jnp.dtype(draw(st.sampled_from(dtypes))))
    shape = draw(st.sampled_from(shapes))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    array = generator.normal(draw(st.sampled_from([0.0, 3.0])), 2.0, shape)
    floating = jnp.issubdtype(dtype, jnp.floating)
    if odd:
        strange = generator.random(shape) < draw(st.sampled_from([0.0, 0.1, 0.5]))
        array = np.where(strange, generator.choice(ODD if floating else (0.0,), shape), array)
    cast = (
        array.astype(dtype) if floating else np.clip(np.round(array), 0 if "u" in dtype.name else -7, 7).astype(dtype)
    )
    axis = draw(st.sampled_from([None, *(each for each, size in enumerate(shape) if size)]))
    if axis is None:
        return sample(cast)
    rows = draw(st.integers(1, shape[axis]))
    garbage = np.asarray(draw(st.sampled_from([np.nan, np.inf, -100.0, 100.0, 0.0])) if floating else 5).astype(dtype)
    cast[(slice(None),) * axis + (slice(rows, None),)] = garbage
    return sample(cast, axis=axis, rows=rows)
