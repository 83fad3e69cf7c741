"""The arguments of the captures of a stage: what they need beside values, in two arrays.

Every array that goes to a program costs the host time, and most captures need none: so those of all are joined.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fluoroscope_server.engine.inspection import Inspection
    from fluoroscope_server.engine.plan import CapturedValue

Arguments: TypeAlias = "tuple[jax.Array, jax.Array]"
"""For one captured value, or for all of a stage, where cuts start (int32), and the numbers of reductions (float32)."""


def arguments_of(inspection: Inspection, places: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the arguments of the captured values at these places of the plan, as a stage takes them."""
    starts = [start for place in places for start in inspection.starts[place]]
    numbers = [number for place in places for number in inspection.numbers[place]]
    return np.array(starts, np.int32), np.array(numbers, np.float32)


def structure_of(captured: Sequence[CapturedValue]) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    """Returns the shapes and dtypes of what `arguments_of` returns for captured values."""
    starts, numbers = (sum(sizes) for sizes in zip(*map(_sizes, captured), strict=True)) if captured else (0, 0)
    return jax.ShapeDtypeStruct((starts,), np.int32), jax.ShapeDtypeStruct((numbers,), np.float32)


def split_arguments(
    captured: Sequence[CapturedValue], places: Sequence[int], arguments: Arguments
) -> Mapping[int, Arguments]:
    """Returns the arguments of each captured value by its place, given those of all of them."""
    starts, numbers = arguments
    cuts, counts = ([sizes[index] for sizes in map(_sizes, captured)] for index in range(2))
    parts = zip(_parts(starts, cuts), _parts(numbers, counts), strict=True)
    return dict(zip(places, parts, strict=True))


def _sizes(value: CapturedValue) -> tuple[int, int]:
    return len(value.cuts), len(value.reduction.numbers)


def _parts(array: Any, sizes: Sequence[int]) -> Iterator[Any]:
    for end, size in zip(itertools.accumulate(sizes), sizes, strict=True):
        yield array[end - size : end]
