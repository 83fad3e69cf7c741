"""Arithmetic that reductions, edits and gradients share: exact where it can be, in float32 where it cannot."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp

EXACT_IN_FLOAT32 = 1 << 24
"""Up to here float32 holds every integer."""

PIECE = 1 << 16
"""About how many elements are described at once: with what is computed of them, they fit into a core's cache."""


SHORT = 2048
"""Up to so many numbers a product with ones sums as exactly as a sum does, whose partial sums XLA arranges better."""


def piece_count(size: int) -> int:
    """Returns into how many equal pieces to cut a value: of no more than `PIECE`, or else as little more as can be."""
    least = -(-size // PIECE)
    counts = itertools.chain(range(least, 2 * least), range(least - 1, 0, -1))
    return next((pieces for pieces in counts if size % pieces == 0), 1)


def count(mask: jax.Array) -> jax.Array:
    """Returns how many elements of a mask are true, an int32 scalar.

    Summed as float32 while that is exact: XLA's loops over integers made of truth values take twice as long on a CPU.
    """
    if mask.size <= EXACT_IN_FLOAT32:
        return jnp.sum(mask.astype(jnp.float32)).astype(jnp.int32)
    return jnp.sum(mask, dtype=jnp.int32)


def sum_each(parts: jax.Array) -> jax.Array:
    """Returns the sum of each part of a float32 array, which are along its first axis.

    Short rows are multiplied with ones: together with the other loops over them, XLA's CPU client takes a fraction of
    the time of a sum for it.
    """
    if parts.ndim != 2 or parts.shape[1] > SHORT:
        return jnp.sum(parts, axis=tuple(range(1, parts.ndim)))
    return jnp.dot(parts, jnp.ones(parts.shape[1], parts.dtype), precision=jax.lax.Precision.HIGHEST)


def widened(value: jax.Array) -> jax.Array:
    """Returns a value of floats in float32, or as it is if it is float64."""
    return value if value.dtype == jnp.float64 else value.astype(jnp.float32)  # JAX promotes no float8


def count_present(value: jax.Array, valid: jax.Array | None, axes: tuple[int, ...] | None = None) -> jax.Array:
    """Returns how many valid elements a value has along `axes`, None meaning all: an int32 scalar.

    All sums along the axes have as many, so only a mask along a batch axis among them changes the number.
    """
    axes = tuple(range(value.ndim)) if axes is None else axes
    size = 1
    for axis in axes:
        size *= value.shape[axis]
    if valid is None:
        return jnp.asarray(size, jnp.int32)
    masked = [axis for axis in axes if valid.shape[axis] > 1]
    if not masked:
        return jnp.asarray(size, jnp.int32)
    rows = valid.shape[masked[0]]
    return count(valid) * jnp.asarray(size // rows, jnp.int32)


def power_of_two(magnitude: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the greatest power of two that is no more than each float32, and its inverse; both are normal numbers.

    To divide by it is exact. What was divided by a power of two near its greatest magnitude can be squared and
    summed without overflow: attention scores that are masked with float32's lowest value would overflow otherwise.
    """
    exponent = jax.lax.bitcast_convert_type(magnitude, jnp.int32) >> 23  # biased: 1 to 254 for normal numbers
    exponent = jnp.clip(exponent, 1, 253)
    scale, inverse = (jax.lax.bitcast_convert_type(each << 23, jnp.float32) for each in (exponent, 254 - exponent))
    return scale, inverse
