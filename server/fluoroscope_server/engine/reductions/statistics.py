"""The numbers that describe a value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from fluoroscope_server.engine.reductions.arithmetic import count, piece_count, power_of_two
from fluoroscope_server.engine.reductions.fitness import check_real

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fluoroscope_server.engine.reductions.reduction import Part, ValueSpec


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
        """Returns a float32 array `(pieces, 5)` and an int32 array `(pieces, 3)`, as `read` takes them.

        Nearly all values are finite everywhere. The sum of their magnitudes tells (it may overflow, too, which only
        costs time); least and greatest do not, since XLA may lose a NaN in them. Then each row is reduced as it is, and
        no element need be looked at before it is added, which is much faster. All else goes piece by piece.
        """
        x = value.astype(jnp.float32)
        pieces = piece_count(value.size)
        finite = jnp.isfinite(_over_rows(jnp.sum, jnp.abs(x), valid, 0.0))
        described: tuple[jax.Array, jax.Array] = jax.lax.cond(
            finite, lambda x: _describe_rows(x, valid, pieces), lambda x: _describe_pieces(x, valid, pieces), x
        )
        return described

    def read(self, arrays: Sequence[np.ndarray], count: int) -> SiteStatistics:
        """Returns what `compute` left on the device as statistics of a value of `count` elements.

        The pieces are put together in float64, as Chan, Golub and LeVeque do it (1979).
        """
        numbers, zeros, nans = arrays[1].T
        some = numbers > 0
        weights = numbers[some]
        mean, variance, least, greatest, scale = arrays[0].astype(np.float64)[some].T
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


def _describe_rows(x: jax.Array, valid: jax.Array | None, pieces: int) -> tuple[jax.Array, jax.Array]:
    """Returns what `compute` does, of a value whose elements are finite: all in the first piece, none in the others."""
    rows = jnp.ones((), jnp.int32) if valid is None else count(valid)
    number = rows * (x.size if valid is None else x.size // valid.size)
    size = number.astype(jnp.float32)
    least = _over_rows(jnp.min, x, valid, jnp.inf)
    greatest = _over_rows(jnp.max, x, valid, -jnp.inf)
    scale, inverse = power_of_two(jnp.maximum(jnp.abs(least), jnp.abs(greatest)))
    mean = _over_rows(jnp.sum, x * inverse, valid, 0.0) / size
    variance = _over_rows(jnp.sum, jnp.square(x * inverse - mean), valid, 0.0) / size
    zeros = _over_rows(jnp.sum, (x == 0).astype(jnp.int32), valid, 0)
    moments, counts = jnp.zeros((pieces, 5), jnp.float32), jnp.zeros((pieces, 3), jnp.int32)
    first = jnp.stack([mean, variance, least, greatest, scale])
    return moments.at[0].set(first), counts.at[0, :2].set(jnp.stack([number, zeros]))


def _over_rows(reduce: Callable[..., jax.Array], x: jax.Array, valid: jax.Array | None, neutral: float) -> jax.Array:
    """Returns a reduction of those rows that are real; each is reduced first, whatever it holds."""
    if valid is None:
        return reduce(x, initial=neutral)
    rows = int(np.argmax(valid.shape))  # all its other axes are 1
    each = reduce(x, axis=tuple(axis for axis in range(x.ndim) if axis != rows), initial=neutral)
    return reduce(jnp.where(valid.reshape(-1), each, jnp.asarray(neutral, x.dtype)), initial=neutral)


def _describe_pieces(x: jax.Array, valid: jax.Array | None, pieces: int) -> tuple[jax.Array, jax.Array]:
    """Returns what `compute` does, of any value, in pieces that are each small enough for a core's cache."""
    present = jnp.ones((), bool) if valid is None else valid
    flat = [jnp.broadcast_to(each, x.shape).reshape(pieces, -1) for each in (x, present)]
    moments, counts = jax.lax.map(lambda piece: _describe(*piece), tuple(flat))
    return moments, counts


def _describe(x: jax.Array, present: jax.Array) -> tuple[jax.Array, jax.Array]:
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
    counts = [number, count((x == 0) & present), count(jnp.isnan(x) & present)]
    return jnp.stack([mean, variance, least, greatest, scale]), jnp.stack(counts)
