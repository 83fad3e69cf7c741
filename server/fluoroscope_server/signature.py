"""The named inputs and outputs of a network, with dtype and shape."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

BATCH = -1
"""The size that marks the batch axis in a shape."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """What an input must be, or what an output will be."""

    name: str
    """The key in the request or the answer."""

    dtype: np.dtype
    """The type of each element."""

    shape: tuple[int, ...]
    """The size of each axis, outermost first; `BATCH` marks the batch axis."""

    def with_rows(self, rows: int) -> tuple[int, ...]:
        """Returns the shape of a batch of `rows` examples."""
        return tuple(rows if size == BATCH else size for size in self.shape)

    def __str__(self) -> str:
        """Returns the spec for people: `image: float32[batch, 28, 28, 1]`."""
        return f"{self.name}: {describe(self.dtype, self.shape)}"


@dataclass(frozen=True, kw_only=True)
class Signature:
    """All inputs and outputs of a network."""

    inputs: tuple[TensorSpec, ...]
    """The inputs, in the order in which the network takes them."""

    outputs: tuple[TensorSpec, ...]
    """The outputs, in the order in which the network gives them."""

    @functools.cached_property
    def input_names(self) -> tuple[str, ...]:
        """Returns the names of the inputs, in order."""
        return tuple(spec.name for spec in self.inputs)

    @functools.cached_property
    def output_names(self) -> tuple[str, ...]:
        """Returns the names of the outputs, in order."""
        return tuple(spec.name for spec in self.outputs)

    @functools.cached_property
    def output_row_bytes(self) -> dict[str, int]:
        """Returns how many bytes each output has for one example, by its name, in order."""
        return {spec.name: math.prod(spec.with_rows(1)) * spec.dtype.itemsize for spec in self.outputs}


def describe(dtype: np.dtype, shape: tuple[int, ...]) -> str:
    """Returns a dtype and a shape for people: `float32[batch, 28, 28, 1]`."""
    return f"{dtype}[{', '.join('batch' if size == BATCH else str(size) for size in shape)}]"
