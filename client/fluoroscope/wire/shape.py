"""Shapes: which an array can have, how many bytes they make, and how they are shown.

They come from the other end, and any number may be in them: none is multiplied or printed before it is known to be
one of a few, since the product of thousands of sizes has thousands of digits.
"""

from __future__ import annotations

from itertools import islice
from math import prod
from typing import TYPE_CHECKING, Final

from fluoroscope.wire.errors import WireError

if TYPE_CHECKING:
    from collections.abc import Collection

    import numpy as np

MOST_AXES: Final = 64
"""How many axes an array can have: NumPy's limit."""

MOST_BYTES: Final = (1 << 63) - 1
"""How many bytes an array can have: NumPy's limit. It counts sizes of zero as one there, and so do we."""

_SHOWN: Final = 16


def read_shape(sizes: Collection[int]) -> tuple[int, ...]:
    """Returns the sizes of a message as a shape.

    Raises:
        WireError: There are more axes than an array can have, or a size is negative.
    """
    if len(sizes) > MOST_AXES:
        raise WireError(
            f"no array can have the shape {show_shape(sizes)}: it has {len(sizes):,} axes, and the most are {MOST_AXES}"
        )
    shape = tuple(sizes)
    if shape and min(shape) < 0:
        raise WireError(f"shape is {show_shape(shape)}; no size may be negative")
    return shape


def byte_size(dtype: np.dtype, shape: tuple[int, ...]) -> int:
    """Returns how many bytes an array takes on the wire.

    Args:
        dtype: The type of each element.
        shape: The size of each axis, as `read_shape` or an array has it.

    Raises:
        WireError: They are more than an array can have.
    """
    size = prod(shape) * dtype.itemsize
    if (size or prod(filter(None, shape)) * dtype.itemsize) > MOST_BYTES:
        raise WireError(f"no array can have the shape {show_shape(shape)}: of {dtype}, it has 2**63 bytes or more")
    return size


def show_shape(sizes: Collection[int]) -> str:
    """Returns sizes for people, the first of them only if there are many: `[2, 3]`."""
    rest = len(sizes) - _SHOWN
    return f"[{', '.join(map(str, islice(sizes, _SHOWN)))}{f', and {rest:,} more' if rest > 0 else ''}]"
