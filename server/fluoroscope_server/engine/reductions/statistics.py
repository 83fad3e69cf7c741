"""The numbers that describe a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from fluoroscope_server.errors import InvalidRequestError

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

    def check(self, value: ValueSpec, *, field: str) -> None:
        """Refuses complex values: they have no order."""
        if np.issubdtype(value.dtype, np.complexfloating):
            raise InvalidRequestError(
                f"site {value.site!r} is {value.dtype}, and statistics are of real values; capture it full", field=field
            )

    def parts(self, value: ValueSpec) -> tuple[Part, ...]:  # noqa: ARG002 (whatever the value)
        """Returns none: statistics are a summary."""
        return ()

    def compute(self, value: jax.Array, valid: jax.Array | None, numbers: jax.Array) -> tuple[jax.Array, ...]:  # noqa: ARG002 (there are none)
        """Returns a float32 array `(7,)` and an int32 array `(3,)`, as `read` takes them.

        Sums are of values divided by a power of two near the greatest, which is exact: attention scores that
        are masked with float32's lowest value would overflow otherwise. The variance is taken around the mean in
        a second pass: the textbook's difference of squares loses all digits when the mean is large. Subnormal
        numbers are zero where the device takes them so, as in the network itself.

        Nearly all values are finite everywhere. The least and the greatest tell, since NaN is the least and the
        greatest of whatever it is in; then no element need be looked at before it is added, which is much faster.
        """
        x = value.astype(jnp.float32)
        least = _over_rows(jnp.min, x, valid, jnp.inf)
        greatest = _over_rows(jnp.max, x, valid, -jnp.inf)
        is_finite = jnp.isfinite(least) & jnp.isfinite(greatest)

        def of_finite(x: jax.Array) -> tuple[jax.Array, jax.Array]:
            return _of_finite(x, valid, least, greatest)

        def of_any(x: jax.Array) -> tuple[jax.Array, jax.Array]:
            return _of_any(x, valid)

        moments, counts = jax.lax.cond(is_finite, of_finite, of_any, x)
        return moments, counts

    def read(self, arrays: Sequence[np.ndarray], count: int) -> SiteStatistics:
        """Returns what `compute` left on the device as statistics of a value of `count` elements."""
        mean, std, least, greatest, abs_max, l2_norm, scale = arrays[0].tolist()
        zeros, nans, infs = arrays[1].tolist()
        return SiteStatistics(
            count=count,
            mean=mean * scale,
            std=std * scale,
            min=least,
            max=greatest,
            abs_max=abs_max,
            l2_norm=l2_norm * scale,
            zero_count=zeros,
            nan_count=nans,
            inf_count=infs,
        )


def _of_finite(
    x: jax.Array, valid: jax.Array | None, least: jax.Array, greatest: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns what `compute` does, of a value whose elements are finite; there is one at least."""
    rows = jnp.ones((), jnp.int32) if valid is None else jnp.sum(valid, dtype=jnp.int32)
    each = x.size if valid is None else x.size // valid.size
    number = rows.astype(jnp.float32) * np.float32(each)
    abs_max = jnp.maximum(-least, greatest)
    scale, inverse = _power_of_two(abs_max)
    scaled = x * inverse
    mean = _over_rows(jnp.sum, scaled, valid, 0.0) / number
    std = jnp.sqrt(_over_rows(jnp.sum, jnp.square(scaled - mean), valid, 0.0) / number)
    l2_norm = jnp.sqrt(_over_rows(jnp.sum, jnp.square(scaled), valid, 0.0))
    zeros = _over_rows(jnp.sum, (x == 0).astype(jnp.int32), valid, 0)
    none = jnp.zeros((), jnp.int32)
    return jnp.stack([mean, std, least, greatest, abs_max, l2_norm, scale]), jnp.stack([zeros, none, none])


def _of_any(x: jax.Array, valid: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """Returns what `compute` does, of any value."""
    present = jnp.ones((), bool) if valid is None else valid
    finite = jnp.isfinite(x) & present
    number = jnp.sum(finite, dtype=jnp.int32).astype(jnp.float32)
    kept = jnp.where(finite, x, 0.0)
    abs_max = jnp.max(jnp.abs(kept), initial=0.0)
    scale, inverse = _power_of_two(abs_max)
    scaled = kept * inverse
    mean = jnp.sum(scaled) / number
    std = jnp.sqrt(jnp.sum(jnp.where(finite, jnp.square(scaled - mean), 0.0)) / number)
    l2_norm = jnp.sqrt(jnp.sum(jnp.square(scaled)))
    least = jnp.min(jnp.where(finite, x, jnp.inf), initial=jnp.inf)
    greatest = jnp.max(jnp.where(finite, x, -jnp.inf), initial=-jnp.inf)
    none = number == 0
    moments = [jnp.where(none, jnp.nan, each) for each in (mean, std, least, greatest, abs_max)]
    counts = [jnp.sum(each & present, dtype=jnp.int32) for each in (x == 0, jnp.isnan(x), jnp.isinf(x))]
    return jnp.stack([*moments, l2_norm, scale]), jnp.stack(counts)


def _over_rows(reduce: Callable[..., jax.Array], x: jax.Array, valid: jax.Array | None, neutral: float) -> jax.Array:
    """Returns a reduction of those rows that are real; each is reduced first, whatever it holds."""
    if valid is None:
        return reduce(x, initial=neutral)
    rows = int(np.argmax(valid.shape))  # all its other axes are 1
    each = reduce(x, axis=tuple(axis for axis in range(x.ndim) if axis != rows), initial=neutral)
    return reduce(jnp.where(valid.reshape(-1), each, jnp.asarray(neutral, x.dtype)), initial=neutral)


def _power_of_two(magnitude: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the greatest power of two that is no more than a float32, and its inverse; both are normal numbers."""
    exponent = jax.lax.bitcast_convert_type(magnitude, jnp.int32) >> 23  # biased: 1 to 254 for normal numbers
    exponent = jnp.clip(exponent, 1, 253)
    scale, inverse = (jax.lax.bitcast_convert_type(each << 23, jnp.float32) for each in (exponent, 254 - exponent))
    return scale, inverse
