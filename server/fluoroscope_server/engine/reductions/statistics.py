"""The numbers that describe a value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from fluoroscope_server.engine.reductions.arithmetic import (
    EXACT_IN_FLOAT32,
    PIECE,
    count,
    piece_count,
    power_of_two,
    sum_each,
)
from fluoroscope_server.engine.reductions.fitness import check_real

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fluoroscope_server.engine.reductions.reduction import Part, ValueSpec


LEAST_VARIANCE = 1e-30
"""Below it, so many squares are too small for float32 that their sum is not exact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteStatistics:
    """Statistics of one value. NaN and infinite elements are counted, and left out of everything else."""

    count: int
    """How many elements the value has."""

    mean: float
    """The mean of the finite elements; NaN if there is none."""

    std: float
    """The population standard deviation of the finite elements; NaN if there is none."""

    min: float
    """The least finite element; NaN if there is none."""

    max: float
    """The greatest finite element; NaN if there is none."""

    abs_max: float
    """The greatest magnitude of the finite elements; NaN if there is none."""

    l2_norm: float
    """The Euclidean norm of the finite elements."""

    zero_count: int
    """How many elements are zero."""

    nan_count: int
    """How many elements are NaN."""

    inf_count: int
    """How many elements are infinite."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """Computes `SiteStatistics` on the device, in float32."""

    numbers = ()
    is_summary = True

    def check(self, value: ValueSpec, *, field: str) -> None:
        """Refuses complex values: they have no order."""
        check_real(value, what="statistics", field=field)

    def parts(self, value: ValueSpec) -> tuple[Part, ...]:  # noqa: ARG002 (whatever the value)
        """Returns none: statistics are a summary."""
        return ()

    def compute(self, value: jax.Array, valid: jax.Array | None, numbers: jax.Array) -> tuple[jax.Array, ...]:  # noqa: ARG002 (there are none)
        """Returns an int32 array `(8, parts)`, as `read` takes it: a part is a row, or a piece of one.

        Nearly all values are finite everywhere, and neither huge nor tiny. What is computed as if they were tells
        whether that was right; if not, they are described again, with care. The loop does that at most once: a branch
        would cost XLA's CPU client twice as much.
        """
        x, present = _parts(value.astype(jnp.float32), valid)
        described, right = _describe_plain(x, present)
        _, described = jax.lax.while_loop(
            lambda state: ~state[0], lambda _: (jnp.asarray(True), _describe_any(x, present)), (right, described)
        )
        return (described,)

    def read(self, arrays: Sequence[np.ndarray], count: int) -> SiteStatistics:
        """Returns what `compute` left on the device as statistics of a value of `count` elements.

        The parts are put together in float64, as Chan, Golub and LeVeque do it (1979).
        """
        numbers, zeros, nans = arrays[0][5:]
        some = numbers > 0
        weights = numbers[some]
        mean, variance, least, greatest, scale = arrays[0][:5].view(np.float32).astype(np.float64)[:, some]
        number, nan = int(weights.sum()), math.nan
        means, variances = mean * scale, variance * scale * scale
        whole = float(weights @ means / number) if number else nan
        spread = float(weights @ (variances + (means - whole) ** 2) / number) if number else nan
        ends = (float(least.min()), float(greatest.max())) if number else (nan, nan)
        return SiteStatistics(
            count=count,
            mean=whole,
            std=math.sqrt(spread),
            min=ends[0],
            max=ends[1],
            abs_max=max(abs(end) for end in ends),
            l2_norm=math.sqrt(weights @ (variances + means**2)),
            zero_count=int(zeros.sum()),
            nan_count=int(nans.sum()),
            inf_count=count - number - int(nans.sum()),
        )


def _parts(x: jax.Array, valid: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """Returns a value with its parts along the first axis, and which of them are real."""
    if valid is None:
        pieces = piece_count(x.size)
        return x.reshape(pieces, x.size // pieces), jnp.ones(pieces, bool)
    axis = int(np.argmax(valid.shape))  # all its other axes are 1
    rows = x.shape[axis]
    present = jnp.broadcast_to(valid.reshape(-1), rows)
    if axis > 0:
        return jnp.moveaxis(x, axis, 0), present
    size = x.size // max(rows, 1)
    pieces = piece_count(size)
    return x.reshape(rows * pieces, size // pieces), jnp.repeat(present, pieces)


def _count_each(mask: jax.Array) -> jax.Array:
    """Returns how many elements of each part are true, int32; summed as float32, which is faster, where it is exact."""
    size, axes = math.prod(mask.shape[1:]), tuple(range(1, mask.ndim))
    if size > EXACT_IN_FLOAT32:
        return jnp.sum(mask, axis=axes, dtype=jnp.int32)
    return jnp.sum(mask.astype(jnp.float32), axis=axes).astype(jnp.int32)


def _packed(moments: Sequence[jax.Array], counts: Sequence[jax.Array]) -> jax.Array:
    """Returns five float32 arrays and three int32 arrays as one array, of int32: the bits of floats are kept in it."""
    return jnp.stack([*(jax.lax.bitcast_convert_type(each, jnp.int32) for each in moments), *counts])


def _describe_plain(x: jax.Array, present: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns what `compute` does, and whether it is right: of parts that are finite, with squares that are normal.

    A NaN or an infinite element shows in the sums; it need not in least and greatest, where XLA may lose a NaN.
    """
    axes, size = tuple(range(1, x.ndim)), math.prod(x.shape[1:])
    least = jnp.min(x, axis=axes, initial=jnp.inf)
    greatest = jnp.max(x, axis=axes, initial=-jnp.inf)
    mean = sum_each(x) / jnp.float32(size)
    variance = jnp.sum(jnp.square(x - jnp.expand_dims(mean, axes)), axis=axes) / jnp.float32(size)
    counts = (jnp.full(present.shape, size, jnp.int32), _count_each(x == 0), jnp.zeros(present.shape, jnp.int32))
    right = jnp.isfinite(variance) & ((variance >= LEAST_VARIANCE) | (least == greatest))
    packed = _packed(
        [mean, variance, least, greatest, jnp.ones(present.shape, jnp.float32)],
        [jnp.where(present, each, 0) for each in counts],
    )
    return packed, jnp.all(right | ~present)


def _describe_any(x: jax.Array, present: jax.Array) -> jax.Array:
    """Returns what `compute` does, of any parts; as many at once as fit into a core's cache."""
    size = math.prod(x.shape[1:])
    together = PIECE // max(size, 1)
    described: jax.Array = jax.lax.map(
        lambda part: _describe(*part),
        (x.reshape(*present.shape, size), present),
        batch_size=together if together > 1 else None,
    )
    return described.T


def _describe(x: jax.Array, present: jax.Array) -> jax.Array:
    """Returns mean, variance, least, greatest and a scale of the finite elements, and how many are finite, zero, NaN.

    The scale is a power of two that mean and variance are divided by. The variance is taken around the mean in a
    second pass: the textbook's difference of squares loses all digits when the mean is large. Subnormal numbers are
    zero where the device takes them so, as in the network itself.
    """
    finite = jnp.isfinite(x) & present
    least = jnp.min(jnp.where(finite, x, jnp.inf), initial=jnp.inf)
    greatest = jnp.max(jnp.where(finite, x, -jnp.inf), initial=-jnp.inf)
    scale, inverse = power_of_two(jnp.maximum(jnp.abs(least), jnp.abs(greatest)))
    number = count(finite)
    size = number.astype(jnp.float32)
    mean = jnp.sum(jnp.where(finite, x * inverse, 0.0)) / size
    variance = jnp.sum(jnp.where(finite, jnp.square(x * inverse - mean), 0.0)) / size
    return _packed(
        [mean, variance, least, greatest, scale],
        [number, count((x == 0) & present), count(jnp.isnan(x) & present)],
    )
