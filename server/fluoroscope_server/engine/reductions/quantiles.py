"""The quantiles of a value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from fluoroscope_server.engine.reductions.arithmetic import count
from fluoroscope_server.engine.reductions.fitness import check_real

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fluoroscope_server.engine.reductions.reduction import Part, ValueSpec

MOST_QUANTILES = 1_000
"""How many quantiles one reduction may give."""

_LIMB = 16
_LIMBS = 3
_DIGITS = ((21, 11), (10, 11), (0, 10))
"""The shift and width of each digit of a key, the greatest first: few bins to count in, and few passes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteQuantiles:
    """Quantiles of one value, of its finite elements."""

    values: tuple[float, ...]
    """One for each probability, in the order in which they were asked for; NaN if no element is finite."""

    finite_count: int
    """How many elements are finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantiles:
    """Computes `SiteQuantiles` on the device: exact order statistics in float32, linear between two of them."""

    size: int = field(init=False)
    """How many probabilities: all that shapes the result."""

    probabilities: tuple[float, ...] = field(compare=False, repr=False)
    """Each from 0 to 1."""

    is_summary = True

    def __post_init__(self) -> None:
        """Counts the probabilities."""
        object.__setattr__(self, "size", len(self.probabilities))

    @property
    def numbers(self) -> tuple[float, ...]:
        """The probabilities in units of 2**-48, as three numbers of 16 bits each: one float32 would be too coarse."""
        scaled = np.rint(np.array(self.probabilities) * 2.0 ** (_LIMB * _LIMBS)).astype(
            np.int64
        )  # the product is exact
        high, rest = np.divmod(scaled, 1 << _LIMB * (_LIMBS - 1))
        return tuple(np.stack([high, *np.divmod(rest, 1 << _LIMB)], axis=-1).astype(float).ravel().tolist())

    def check(self, value: ValueSpec, *, field: str) -> None:
        """Refuses complex values: they have no order."""
        check_real(value, what="quantiles", field=field)

    def parts(self, value: ValueSpec) -> tuple[Part, ...]:  # noqa: ARG002 (whatever the value)
        """Returns none: quantiles are a summary."""
        return ()

    def compute(self, value: jax.Array, valid: jax.Array | None, numbers: jax.Array) -> tuple[jax.Array, ...]:
        """Returns a float32 array `(3, size)`, the elements on both sides and the weight of the second, and a count.

        The elements are selected by radix, digit by digit of their bits, not sorted: of a million elements, one takes
        5 ms on a CPU, and to sort them takes 238 ms.
        """
        x = value.astype(jnp.float32).ravel()
        finite = jnp.isfinite(value.astype(jnp.float32))
        finite = (finite if valid is None else finite & valid).ravel()
        number = count(finite)
        keys = _key(x)

        def quantile(limbs: jax.Array) -> jax.Array:
            rank, weight = _rank(limbs.astype(jnp.uint32), jnp.maximum(number - 1, 0).astype(jnp.uint32))
            return jnp.stack([*_neighbours(keys, finite, rank), weight])

        found = jax.lax.map(quantile, numbers.reshape(self.size, _LIMBS)).T
        return jnp.where(number == 0, jnp.nan, found), number

    def read(self, arrays: Sequence[np.ndarray], count: int) -> SiteQuantiles:  # noqa: ARG002 (it counts itself)
        """Returns what `compute` left on the device, interpolated in float64."""
        lower, upper, weight = arrays[0].astype(np.float64)
        values = lower * (1 - weight) + upper * weight
        return SiteQuantiles(values=tuple(values.tolist()), finite_count=int(arrays[1]))


def _rank(limbs: jax.Array, last: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the whole part and the fraction of a probability times the last rank, by long multiplication.

    The whole part is an int32, and exact: float32 has too few digits to say which of a million elements is meant.
    """
    sixteen, low = jnp.uint32(_LIMB), jnp.uint32((1 << _LIMB) - 1)
    digits = [jnp.uint32(0)] * (_LIMBS + 2)  # base 2**16, the least first
    for place, limb in enumerate(limbs[::-1]):
        carry = jnp.uint32(0)
        for offset, factor in enumerate((last & low, last >> sixteen)):
            product = limb * factor  # at most 2**16 * (2**16 - 1)
            total = digits[place + offset] + (product & low) + carry
            digits[place + offset] = total & low
            carry = (total >> sixteen) + (product >> sixteen)
        for rest in range(place + 2, len(digits)):
            total = digits[rest] + carry
            digits[rest], carry = total & low, total >> sixteen
    whole = (digits[_LIMBS + 1] << sixteen) | digits[_LIMBS]
    fraction = sum(
        (
            digit.astype(jnp.float32) * np.float32(2.0 ** (_LIMB * (place - _LIMBS)))
            for place, digit in enumerate(digits[:_LIMBS])
        ),
        jnp.float32(0),
    )
    return whole.astype(jnp.int32), fraction


def _key(x: jax.Array) -> jax.Array:
    """Returns a uint32 for each float32 that orders as they do."""
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    sign = jnp.uint32(1 << 31)
    return jnp.where(bits >= sign, ~bits, bits | sign)


def _unkey(key: jax.Array) -> jax.Array:
    sign = jnp.uint32(1 << 31)
    return jax.lax.bitcast_convert_type(jnp.where(key >= sign, key ^ sign, ~key), jnp.float32)


def _neighbours(keys: jax.Array, alive: jax.Array, rank: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the element of a rank among those that are `alive`, counting from 0, and the one behind it."""
    everyone, chosen = alive, jnp.uint32(0)
    equals = jnp.int32(0)
    for shift, width in _DIGITS:
        digit = ((keys >> jnp.uint32(shift)) & jnp.uint32((1 << width) - 1)).astype(jnp.int32)
        slots = jnp.where(alive, digit, 1 << width)
        counts = jnp.zeros(1 << width, jnp.int32).at[slots].add(1, mode="drop")
        until = jnp.cumsum(counts, dtype=jnp.int32)
        found = jnp.minimum(count(until <= rank), (1 << width) - 1)
        rank = rank - jnp.where(found > 0, until[found - 1], 0)
        alive = alive & (digit == found)
        chosen = chosen | (found.astype(jnp.uint32) << jnp.uint32(shift))
        equals = counts[found]
    greater = jnp.min(
        jnp.where(everyone & (keys > chosen), keys, jnp.uint32(0xFFFFFFFF)), initial=jnp.uint32(0xFFFFFFFF)
    )
    last = greater == jnp.uint32(0xFFFFFFFF)
    behind = jnp.where((rank + 1 < equals) | last, chosen, greater)
    return _unkey(chosen), _unkey(behind)
