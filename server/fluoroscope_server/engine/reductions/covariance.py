"""How the units of a value vary together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from fluoroscope_server.engine.reductions.arithmetic import count_present, power_of_two
from fluoroscope_server.engine.reductions.fitness import check_real, check_units
from fluoroscope_server.engine.reductions.reduction import Part
from fluoroscope_server.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fluoroscope_server.engine.reductions.reduction import ValueSpec

MOST_UNITS = 4096
"""How many units may vary together: the matrix of so many has 64 MiB."""

PIECE = 1 << 12
"""How many samples one float32 matrix product sums over: of so many it keeps all but the last digit."""

_FLOAT32 = np.dtype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Covariance:
    """Computes the covariance of all pairs of units, divided by the number of samples, in float32.

    Units are the last axis; each index of all other axes together is a sample. Batches can be put together from mean,
    matrix and the number of samples, which the shape of the value tells. What involves a unit with a NaN or
    infinite element is NaN.
    """

    numbers = ()
    is_summary = False

    def check(self, value: ValueSpec, *, field: str) -> None:
        """Refuses complex values, values without an axis of units, and too many units."""
        _check(value, what="covariances", field=field)

    def parts(self, value: ValueSpec) -> tuple[Part, ...]:
        """Returns the matrix `(units, units)` and the mean `(units,)`."""
        units = value.shape[-1]
        return (
            Part(name="matrix", dtype=_FLOAT32, shape=(units, units)),
            Part(name="mean", dtype=_FLOAT32, shape=(units,)),
        )

    def compute(self, value: jax.Array, valid: jax.Array | None, numbers: jax.Array) -> tuple[jax.Array, ...]:  # noqa: ARG002 (there are none)
        """Returns the matrix and the mean."""
        centered, mean, scale, size = _centered(value, valid)
        matrix = _products(centered) / size
        return matrix * scale[:, None] * scale[None, :], mean * scale

    def read(self, arrays: Sequence[np.ndarray], count: int) -> Any:
        """Is never called: the parts are tensors."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Correlation:
    """Computes Pearson's correlation of all pairs of units, in float32.

    As `Covariance`, whose matrix is this one times the standard deviations of both units. What involves a unit that
    does not vary is NaN.
    """

    numbers = ()
    is_summary = False

    def check(self, value: ValueSpec, *, field: str) -> None:
        """Refuses complex values, values without an axis of units, and too many units."""
        _check(value, what="correlations", field=field)

    def parts(self, value: ValueSpec) -> tuple[Part, ...]:
        """Returns the matrix `(units, units)`, the mean and the population standard deviation `(units,)`."""
        units = value.shape[-1]
        return (
            Part(name="matrix", dtype=_FLOAT32, shape=(units, units)),
            Part(name="mean", dtype=_FLOAT32, shape=(units,)),
            Part(name="std", dtype=_FLOAT32, shape=(units,)),
        )

    def compute(self, value: jax.Array, valid: jax.Array | None, numbers: jax.Array) -> tuple[jax.Array, ...]:  # noqa: ARG002 (there are none)
        """Returns the matrix, the mean and the standard deviation."""
        centered, mean, scale, size = _centered(value, valid)
        length, inverse = power_of_two(jnp.max(jnp.abs(centered), axis=0, initial=0.0))
        even = centered * inverse[None, :]  # the spread of a unit may be tiny beside its mean
        std = jnp.sqrt(jnp.sum(jnp.square(even), axis=0) / size)
        unit = even / jnp.where(std > 0, std, jnp.nan)[None, :]
        matrix = jnp.clip(_products(unit) / size, -1.0, 1.0)
        return matrix, mean * scale, std * length * scale

    def read(self, arrays: Sequence[np.ndarray], count: int) -> Any:
        """Is never called: the parts are tensors."""
        raise NotImplementedError


def _check(value: ValueSpec, *, what: str, field: str) -> None:
    check_real(value, what=what, field=field)
    check_units(value, what=what, field=field)
    if value.shape[-1] > MOST_UNITS:
        raise InvalidRequestError(
            f"site {value.site!r} has {value.shape[-1]:,} units, and {what} are of at most {MOST_UNITS:,}: "
            "slice its last axis",
            field=field,
            reason="TOO_MANY_UNITS",
        )


def _centered(value: jax.Array, valid: jax.Array | None) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Returns samples around the mean `(samples, units)`, the mean, the scale of each unit, the number of samples.

    All is divided by the scale, a power of two near the greatest magnitude of the unit. The mean is taken twice, the
    second time of what the first has left over, so that its own rounding does not count as variance.
    """
    units = value.shape[-1]
    x = value.astype(jnp.float32)
    present = jnp.ones((1, 1), bool)
    if valid is not None:
        x = jnp.where(valid, x, 0.0)
        present = jnp.broadcast_to(valid, (*value.shape[:-1], 1)).reshape(-1, 1)
    x = x.reshape(math.prod(value.shape[:-1]), units)
    size = count_present(value, valid, tuple(range(value.ndim - 1))).astype(jnp.float32)
    scale, inverse = power_of_two(jnp.max(jnp.abs(x), axis=0, initial=0.0))
    x = x * inverse[None, :]
    first = jnp.sum(x, axis=0) / size
    left = jnp.where(present, x - first[None, :], 0.0)
    rest = jnp.sum(left, axis=0) / size
    return jnp.where(present, left - rest[None, :], 0.0), first + rest, scale, size


def _products(x: jax.Array) -> jax.Array:
    """Returns the sums over samples of the products of all pairs of units, in float32 wherever it runs.

    Many samples are taken in pieces, whose sums are added up: one sum over all would lose more with each sample.
    """

    def add(place: jax.Array, total: jax.Array) -> jax.Array:
        return total + _products_of_piece(jax.lax.dynamic_slice_in_dim(x, place * PIECE, PIECE))

    whole = len(x) // PIECE * PIECE
    total = _products_of_piece(x[whole:])
    return jax.lax.fori_loop(0, len(x) // PIECE, add, total) if whole else total


def _products_of_piece(x: jax.Array) -> jax.Array:
    return jnp.matmul(x.T, x, precision=jax.lax.Precision.HIGHEST)
