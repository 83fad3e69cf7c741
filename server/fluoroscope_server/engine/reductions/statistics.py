"""The numbers that describe a value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from fluoroscope_server.engine.reductions.arithmetic import count, power_of_two
from fluoroscope_server.engine.reductions.fitness import check_real

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fluoroscope_server.engine.reductions.reduction import Part, ValueSpec

_PIECE = 1 << 16
"""About how many elements are described at once: with what is computed of them, they fit into a core's cache."""


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

        Each piece of the value is small enough for a core's cache: the loops over it are all that this costs.
        """
        pieces = _pieces(value.size)
        if pieces == 1:
            moments, counts = _describe(value, True if valid is None else valid)
            return moments[None], counts[None]
        present = jnp.ones((), bool) if valid is None else valid
        flat = [jnp.broadcast_to(each, value.shape).reshape(pieces, -1) for each in (value, present)]
        moments, counts = jax.lax.map(lambda piece: _describe(*piece), tuple(flat))
        return moments, counts

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


def _pieces(size: int) -> int:
    """Returns into how many equal pieces to cut a value, none of more than `_PIECE`; 1 if it cannot be cut so."""
    least = -(-size // _PIECE)
    return next((pieces for pieces in range(least, 2 * least) if size % pieces == 0), 1)


def _describe(value: jax.Array, present: jax.Array | bool) -> tuple[jax.Array, jax.Array]:
    """Returns mean, variance, least, greatest and a scale of the finite elements, and how many are finite, zero, NaN.

    The scale is a power of two that mean and variance are divided by. The variance is taken around the mean in a
    second pass: the textbook's difference of squares loses all digits when the mean is large. Subnormal numbers are
    zero where the device takes them so, as in the network itself.

    Nearly all values are finite everywhere. The sum of their magnitudes tells (it may overflow, too, which only costs
    time); least and greatest do not, since XLA may lose a NaN in them. Then no element need be looked at before it is
    added, which is much faster.
    """
    x = value.astype(jnp.float32)
    all_finite = jnp.isfinite(jnp.sum(_where(present, jnp.abs(x), 0.0)))
    described: tuple[jax.Array, jax.Array] = jax.lax.cond(
        all_finite, lambda x: _describe_kept(x, present), lambda x: _describe_finite(x, present), x
    )
    return described


def _describe_finite(x: jax.Array, present: jax.Array | bool) -> tuple[jax.Array, jax.Array]:
    """Returns what `_describe` does, of any elements."""
    moments, counts = _describe_kept(x, jnp.isfinite(x) & present)
    return moments, counts.at[1:].set(jnp.stack([count((x == 0) & present), count(jnp.isnan(x) & present)]))


def _describe_kept(x: jax.Array, kept: jax.Array | bool) -> tuple[jax.Array, jax.Array]:
    """Returns what `_describe` does of the elements that are kept, all of them finite."""
    least = jnp.min(_where(kept, x, jnp.inf), initial=jnp.inf)
    greatest = jnp.max(_where(kept, x, -jnp.inf), initial=-jnp.inf)
    scale, inverse = power_of_two(jnp.maximum(jnp.abs(least), jnp.abs(greatest)))
    number = jnp.asarray(x.size, jnp.int32) if kept is True else count(jnp.broadcast_to(kept, x.shape))
    size = number.astype(jnp.float32)
    mean = jnp.sum(_where(kept, x * inverse, 0.0)) / size
    variance = jnp.sum(_where(kept, jnp.square(x * inverse - mean), 0.0)) / size
    counts = [number, count((x == 0) & kept), jnp.zeros((), jnp.int32)]
    return jnp.stack([mean, variance, least, greatest, scale]), jnp.stack(counts)


def _where(kept: jax.Array | bool, x: jax.Array, other: float) -> jax.Array:
    return x if kept is True else jnp.where(kept, x, other)
