"""How the elements of a value are spread."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from fluoroscope_server.engine.reductions.arithmetic import count_present, power_of_two
from fluoroscope_server.engine.reductions.fitness import check_real

if TYPE_CHECKING:
    from collections.abc import Sequence

    import jax

    from fluoroscope_server.engine.reductions.reduction import Part, ValueSpec

MOST_BINS = 10_000
"""How many bins a histogram may have."""

_MOST = np.finfo(np.float32).max
_TINY = np.finfo(np.float32).tiny
_ROOM = np.float32(2**-12)


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteHistogram:
    """The histogram of one value. Each element is counted once: in a bin, below, above, or as NaN."""

    low: float
    """The left edge of the first bin; NaN if it was to be found and no element is finite."""

    high: float
    """The right edge of the last bin, which belongs to it; NaN as `low`."""

    counts: tuple[int, ...]
    """How many elements each bin holds; all bins are equally wide."""

    below_count: int
    """How many elements are less than `low`, minus infinity included."""

    above_count: int
    """How many elements are greater than `high`, infinity included."""

    nan_count: int
    """How many elements are NaN."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Computes a `SiteHistogram` on the device, in float32."""

    bins: int
    """How many bins."""

    low: float | None = field(default=None, compare=False, repr=False)
    """The left edge of the first bin; None means the least finite element."""

    high: float | None = field(default=None, compare=False, repr=False)
    """The right edge of the last bin; None means the greatest finite element."""

    is_summary = True

    @property
    def numbers(self) -> tuple[float, ...]:
        """The ends of the range, NaN for one that is to be found: a range that is given is the same program."""
        return tuple(math.nan if end is None else end for end in (self.low, self.high))

    def check(self, value: ValueSpec, *, field: str) -> None:
        """Refuses complex values: they have no order."""
        check_real(value, what="histograms", field=field)

    def parts(self, value: ValueSpec) -> tuple[Part, ...]:  # noqa: ARG002 (whatever the value)
        """Returns none: a histogram is a summary."""
        return ()

    def compute(self, value: jax.Array, valid: jax.Array | None, numbers: jax.Array) -> tuple[jax.Array, ...]:
        """Returns a float32 array `(2,)` and an int32 array `(bins + 3,)`, as `read` takes them.

        An element is in bin `floor((x - low) * bins / (high - low))`, computed on numbers divided by a power of two, so
        that nothing overflows. A rounding may put one that is all but on an edge into the bin beside; where all these
        are whole numbers that float32 holds, there is none.
        """
        x = value.astype(jnp.float32)
        present = jnp.ones((), bool) if valid is None else valid
        low, high, some = _range(x, jnp.isfinite(x) & present, numbers)
        _, inverse = power_of_two(jnp.maximum(jnp.abs(low), jnp.abs(high)))
        start = low * inverse
        width = jnp.maximum(high * inverse - start, _TINY)
        inside = (x >= low) & (x <= high)
        slot = _floor(jnp.where(inside, (x * inverse - start) * np.float32(self.bins), 0.0), width)
        slot = jnp.clip(slot.astype(jnp.int32), 0, self.bins - 1)
        below, above, nowhere = (jnp.asarray(self.bins + index, jnp.int32) for index in range(3))
        slot = jnp.where(inside, slot, jnp.where(x < low, below, jnp.where(x > high, above, nowhere)))
        slot = jnp.where(present, slot, nowhere)  # behind the end, where nothing is counted
        counts = jnp.zeros(self.bins + 2, jnp.int32).at[slot.ravel()].add(1, mode="drop")
        nans = count_present(value, valid) - jnp.sum(counts, dtype=jnp.int32)
        ends = jnp.stack([low, high])
        return jnp.where(some | ~jnp.isnan(numbers), ends, jnp.nan), jnp.append(counts, nans)

    def read(self, arrays: Sequence[np.ndarray], count: int) -> SiteHistogram:  # noqa: ARG002 (it is the sum)
        """Returns what `compute` left on the device."""
        low, high = arrays[0].tolist()
        *counts, below, above, nans = arrays[1].tolist()
        return SiteHistogram(
            low=low, high=high, counts=tuple(counts), below_count=below, above_count=above, nan_count=nans
        )


def _floor(dividend: jax.Array, divisor: jax.Array) -> jax.Array:
    """Returns the whole part of a quotient; exact where the products are, which XLA's own division is not."""
    quotient = jnp.floor(dividend / divisor)
    too_great = (quotient * divisor > dividend).astype(jnp.float32)
    too_small = ((quotient + 1) * divisor <= dividend).astype(jnp.float32)
    return quotient - too_great + too_small


def _range(x: jax.Array, finite: jax.Array, numbers: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the ends of the range, and whether any element is finite; without one, an end to be found is infinite.

    Where the range would have no width, an end that was to be found is moved: by 0.5 each if both were, as NumPy
    does, else by 1 away from the end that was given. Of numbers so large that this is nothing, by more.
    """
    found_low, found_high = jnp.isnan(numbers[0]), jnp.isnan(numbers[1])
    least = jnp.min(jnp.where(finite, x, jnp.inf), initial=jnp.inf)
    greatest = jnp.max(jnp.where(finite, x, -jnp.inf), initial=-jnp.inf)
    some = least <= greatest
    low = jnp.where(found_low, least, numbers[0])
    high = jnp.where(found_high, greatest, numbers[1])
    narrow = some & (low >= high)
    anchor = jnp.where(found_high, low, high)  # the same number if both were to be found
    room = jnp.maximum(jnp.where(found_low & found_high, 0.5, 1.0), jnp.abs(anchor) * _ROOM)
    low = jnp.where(narrow & found_low, jnp.maximum(anchor - room, -_MOST), low)
    high = jnp.where(narrow & found_high, jnp.minimum(anchor + room, _MOST), high)
    return low, high, some
