"""Results: what a program left on the device, brought to the host."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, TypeAlias

import jax
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from fluoroscope_server.engine.program import Results
    from fluoroscope_server.engine.reductions import Summary
    from fluoroscope_server.engine.result_spec import ResultSpec

Result: TypeAlias = "np.ndarray | Summary"
"""A tensor, or a few numbers."""


@functools.cache
def device_is_host() -> bool:
    """Returns whether the device is the host itself, with the same memory, and cores that all threads share."""
    return jax.default_backend() == "cpu"


def wait(results: Results) -> None:
    """Waits until the device has computed the results, and lets it copy them to the host meanwhile.

    Where the device's memory is the host's there is nothing to copy, and asking for it would make a copy.
    """
    wait_for(jax.tree.leaves(results))


def wait_for(arrays: Sequence[jax.Array]) -> None:
    """Does what `wait` does, for arrays."""
    if not device_is_host():
        for array in arrays:
            array.copy_to_host_async()
    for array in arrays:
        array.block_until_ready()


def paired(
    specs: Iterable[ResultSpec], results: Iterable[Sequence[jax.Array]]
) -> Iterator[tuple[ResultSpec, Sequence[jax.Array]]]:
    """Yields each result with its arrays: a summary with all that its reduction left, each part with its own."""
    remaining = iter(specs)
    for arrays in results:
        spec = next(remaining)
        if spec.part is None:
            yield spec, arrays
            continue
        for index, array in enumerate(arrays):
            yield spec if index == 0 else next(remaining), (array,)


def read(spec: ResultSpec, arrays: Sequence[jax.Array]) -> Result:
    """Waits for one result and returns it, without the rows that only filled the bucket."""
    host = [np.asarray(array) for array in arrays]
    if spec.part is None:
        summary: Summary = spec.reduction.read(host, math.prod(spec.shape))
        return summary
    return trim(host[0], spec.padded_axis, spec.shape)


def trim(array: np.ndarray, axis: int | None, shape: tuple[int, ...]) -> np.ndarray:
    """Returns an array without the rows of `axis` behind those that `shape` has; a view."""
    if axis is None or array.shape[axis] == shape[axis]:
        return array
    return array[(slice(None),) * axis + (slice(shape[axis]),)]
