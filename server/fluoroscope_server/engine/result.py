"""Results: what a program left on the device, brought to the host."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

import jax
import numpy as np

from fluoroscope_server.engine.reductions import Statistics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fluoroscope_server.engine.inspection import ResultSpec
    from fluoroscope_server.engine.program import Results
    from fluoroscope_server.engine.reductions import SiteStatistics

Result: TypeAlias = "np.ndarray | SiteStatistics"
"""A tensor, or a few numbers."""


def wait(results: Results) -> None:
    """Waits until the device has computed the results, and lets it copy them to the host meanwhile.

    Where the device's memory is the host's there is nothing to copy, and asking for it would make a copy.
    """
    if jax.default_backend() != "cpu":
        for array in jax.tree.leaves(results):
            array.copy_to_host_async()
    jax.block_until_ready(results)


def read(spec: ResultSpec, arrays: Sequence[jax.Array]) -> Result:
    """Waits for one result and returns it, without the rows that only filled the bucket."""
    host = [np.asarray(array) for array in arrays]
    if isinstance(spec.reduction, Statistics):
        return Statistics.read(host, math.prod(spec.shape))
    return trim(host[0], spec.padded_axis, spec.shape)


def trim(array: np.ndarray, axis: int | None, shape: tuple[int, ...]) -> np.ndarray:
    """Returns an array without the rows of `axis` behind those that `shape` has; a view."""
    if axis is None or array.shape[axis] == shape[axis]:
        return array
    return array[(slice(None),) * axis + (slice(shape[axis]),)]
