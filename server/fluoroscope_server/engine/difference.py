"""How far two values of the same site are apart, computed on the device.

The left value is what came, `a`, and the right one what was expected, `b`, as in `numpy.testing.assert_allclose`. They
are compared piece by piece, and the host puts the pieces together in float64: a few numbers leave the device, however
large the values are. Halves are subtracted, not values: what is apart as far as float32 reaches does not overflow.
"""

from __future__ import annotations

import functools
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from fluoroscope_server.engine.reductions.arithmetic import count, piece_count, power_of_two

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far apart elements may be: `|a - b| <= atol + rtol * |b|`, as `numpy.allclose` has it."""

    rtol: float = 1e-5
    """The part of the right element."""

    atol: float = 1e-8
    """What is allowed besides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSpec:
    """Two values to compare, as far as that shapes the program. Hashable."""

    dtypes: tuple[np.dtype, np.dtype]
    """The type of each element, on the left and on the right: the same, or both floats."""

    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    """The size of each axis, on the left and on the right: the same, but for buckets of other sizes."""

    batch_axis: int | None
    """Which axis is the batch; None if there is none."""


Pairs: TypeAlias = "frozenset[PairSpec]"
"""What is compared by one comparison: the key of its `DifferencePrograms`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteDifference:
    """How far two values are apart. What is not finite on both sides is counted, and left out of everything else."""

    count: int
    """How many pairs of elements there are."""

    max_abs: float
    """The greatest `|a - b|`; NaN if no pair is finite, as in the next four."""

    max_relative: float
    """The greatest `|a - b| / |b|`: 0 where `a == b`, even if both are 0; infinite where only `b` is 0."""

    mean_abs: float
    """The mean of `|a - b|`."""

    rms: float
    """The square root of the mean of `(a - b) ** 2`."""

    cosine: float
    """The cosine of the angle between both values as vectors; NaN, too, if one of them is all zeros."""

    identical_count: int
    """How many pairs have the same bits, NaN and infinite elements included."""

    divergent_count: int
    """How many pairs are further apart than the tolerance, or differ in being NaN or infinite."""

    nan_mismatch_count: int
    """In how many pairs one element is NaN, and the other is not."""

    inf_mismatch_count: int
    """How many pairs without NaN have an infinite element, and are not the same infinity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DifferencePrograms:
    """The compiled programs of a comparison: one for all pairs that are alike."""

    executables: Mapping[PairSpec, Any]
    """By pair, `(a, b, rows, tolerance) -> arrays`, as `read_difference` takes them."""

    compile_seconds: float
    """How long the compiler took."""


def compile_differences(pairs: Collection[PairSpec]) -> DifferencePrograms:
    """Compiles what compares pairs. What any comparison in this process has compiled is used again."""
    start = time.perf_counter()
    executables = {pair: _compiled(pair) for pair in pairs}
    return DifferencePrograms(executables=executables, compile_seconds=time.perf_counter() - start)


def read_difference(arrays: Sequence[np.ndarray], size: int) -> SiteDifference:
    """Returns what a program left on the device of two values that have `size` elements without padding."""
    moments = arrays[0].astype(np.float64)
    finite, identical, divergent, nan, inf = (int(total) for total in arrays[1].sum(axis=0, dtype=np.int64))
    greatest, relative, scale, total, squares, left, right, dot, aa, bb = moments.T
    product = math.sqrt((left**2 * aa).sum()) * math.sqrt((right**2 * bb).sum())
    cosine = float((left * right * dot).sum()) / product if product else math.nan
    return SiteDifference(
        count=size,
        max_abs=2 * float(greatest.max()) if finite else math.nan,
        max_relative=2 * float(relative.max()) if finite else math.nan,
        mean_abs=2 * float((scale * total).sum()) / finite if finite else math.nan,
        rms=2 * math.sqrt(float((scale**2 * squares).sum()) / finite) if finite else math.nan,
        cosine=min(max(cosine, -1.0), 1.0) if product else math.nan,
        identical_count=identical,
        divergent_count=divergent,
        nan_mismatch_count=nan,
        inf_mismatch_count=inf,
    )


@functools.lru_cache(maxsize=1024)
def _compiled(pair: PairSpec) -> Any:
    values = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in zip(pair.shapes, pair.dtypes, strict=True)]
    rows, tolerance = jax.ShapeDtypeStruct((), np.int32), jax.ShapeDtypeStruct((2,), np.float32)
    function = functools.partial(_compare, batch_axis=pair.batch_axis)
    return jax.jit(function).lower(*values, rows, tolerance).compile()


def _compare(
    a: jax.Array, b: jax.Array, rows: jax.Array, tolerance: jax.Array, *, batch_axis: int | None
) -> tuple[jax.Array, jax.Array]:
    """Returns a float32 array `(pieces, 10)` and an int32 array `(pieces, 5)`; see `_describe`."""
    present = jnp.ones((1,) * a.ndim, bool)
    if batch_axis is not None:
        common = min(a.shape[batch_axis], b.shape[batch_axis])
        a, b = (jax.lax.slice_in_dim(each, 0, common, axis=batch_axis) for each in (a, b))
        shape = [common if axis == batch_axis else 1 for axis in range(a.ndim)]
        present = jax.lax.broadcasted_iota(np.int32, shape, batch_axis) < rows
    pieces = piece_count(a.size)
    flat = [jnp.broadcast_to(each, a.shape).reshape(pieces, a.size // pieces) for each in (a, b, present)]
    moments, counts = jax.lax.map(lambda piece: _describe(piece[0], piece[1], piece[2], tolerance), tuple(flat))
    return moments, counts


def _describe(a: jax.Array, b: jax.Array, present: jax.Array, tolerance: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns what two pieces differ by.

    That is, of the pairs that are finite on both sides: half of the greatest difference and of the greatest relative
    one; a scale that half of each difference is divided by, the sum of these, and the sum of their squares; a scale of
    `a` and one of `b`, and what their products with each other and themselves sum up to when divided by these. And how
    many pairs are finite, identical, divergent, and mismatched in NaN and in infinity.
    """
    x, y, half = _as_floats(a, b)
    nan, inf = (jnp.isnan(x), jnp.isnan(y)), (jnp.isinf(x), jnp.isinf(y))
    finite = present & jnp.isfinite(x) & jnp.isfinite(y)
    rtol, atol = tolerance.astype(x.dtype)
    close = jnp.where(finite, half <= 0.5 * atol + 0.5 * rtol * jnp.abs(y), (x == y) | (nan[0] & nan[1]))
    counts = [
        finite,
        present & _same_bits(a, b),
        present & ~close,
        present & (nan[0] ^ nan[1]),
        present & (inf[0] | inf[1]) & ~nan[0] & ~nan[1] & (x != y),
    ]
    relative = jnp.where(half == 0, 0.0, half / jnp.abs(y))
    kept = [jnp.where(finite, each, 0.0).astype(jnp.float32) for each in (half, relative, x, y)]
    half, relative, x, y = kept
    greatest = [jnp.max(jnp.abs(each), initial=0) for each in kept]
    (scale, _), (left, _), (right, _) = scales = [power_of_two(greatest[index]) for index in (0, 2, 3)]
    half, x, y = (each * inverse for each, (_, inverse) in zip((half, x, y), scales, strict=True))
    sums = [jnp.sum(each) for each in (half, half * half, x * y, x * x, y * y)]
    moments = [greatest[0], greatest[1], scale, *sums[:2], left, right, *sums[2:]]
    return jnp.stack(moments), jnp.stack([count(each) for each in counts])


def _as_floats(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns two values as floats, and half of the magnitude of their difference; integers are subtracted as such."""
    if jnp.issubdtype(a.dtype, jnp.floating):
        wide = jnp.float64 if np.dtype("float64") in {a.dtype, b.dtype} else jnp.float32
        x, y = a.astype(wide), b.astype(wide)
        return x, y, jnp.abs(0.5 * x - 0.5 * y)
    if a.dtype.itemsize < np.dtype(np.int32).itemsize:
        a, b = a.astype(jnp.int32), b.astype(jnp.int32)
    apart = jnp.where(a > b, a - b, b - a)  # modulo the type's range, and so right when its bits are taken as unsigned
    apart = jax.lax.bitcast_convert_type(apart, np.dtype(f"uint{8 * apart.dtype.itemsize}"))
    return a.astype(jnp.float32), b.astype(jnp.float32), 0.5 * apart.astype(jnp.float32)


def _same_bits(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns where two values are the same, bit by bit; floats of different types are both taken as the wider."""
    if not jnp.issubdtype(a.dtype, jnp.floating):
        return a == b
    bits_used = ml_dtypes.finfo(a.dtype).bits  # type: ignore[no-untyped-call]  # its authors left it untyped
    if a.dtype != b.dtype or bits_used != 8 * a.dtype.itemsize:
        a, b, _ = _as_floats(a, b)
    bits = [jax.lax.bitcast_convert_type(each, np.dtype(f"uint{8 * each.dtype.itemsize}")) for each in (a, b)]
    return bits[0] == bits[1]
