"""Sites: the places in a network whose values can be captured."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fluoroscope.wire import is_sendable
from fluoroscope_server.signature import BATCH

if TYPE_CHECKING:
    import numpy as np


class SiteKind(enum.Enum):
    """What kind of place a site is."""

    MODULE = "module"
    """The output of a module."""

    NAMED = "named"
    """A value that the network's author named with `checkpoint_name`."""

    EQUATION = "equation"
    """The result of an equation of the jaxpr, or of a function called in it."""

    INPUT = "input"
    """What a module is called with, where that is not what another module returned."""

    PARAMETER = "parameter"
    """A leaf of the network's variables: there before anything runs, and in a table of its own."""


def unsendable(dtype: np.dtype) -> str:
    """Returns why values of a type cannot be captured; empty if they can, as all that the contract has a type for."""
    return "" if is_sendable(dtype) else f"it is {dtype}, and the contract has no such type; capture what it is made of"


ALL = -1
"""The iteration of a site that is the values of all iterations of a loop, stacked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A named place in a network."""

    path: str
    """The name, unique in the network."""

    kind: SiteKind
    """What kind of place it is."""

    dtype: np.dtype
    """The type of each element of the value."""

    shape: tuple[int, ...]
    """The size of each axis, outermost first; `BATCH` marks the batch axis."""

    order: int
    """Its place in execution order, among all sites of the network."""

    reason: str = ""
    """Why the value cannot be captured; empty if it can."""

    value: str = ""
    """The path of the value in the flat jaxpr, which is the same for all iterations of a loop."""

    iterations: tuple[int, ...] = ()
    """Which iteration of each loop that it is in, the outermost first, as they are counted in the stacked weights.
    `ALL` is all of them, one behind the other on a new axis; these axes are the first."""

    least_rows: int = 1
    """The least batch size at which the network computes this value: of a batch of one, JAX leaves some axes away."""

    flops_fraction: float = 0.0
    """The part of the network's floating point operations that this value needs, from 0 to 1."""

    @property
    def batch_axis(self) -> int | None:
        """Returns which axis is the batch; None if the value is the same for any batch."""
        return self.shape.index(BATCH) if BATCH in self.shape else None

    @property
    def bytes_per_example(self) -> int:
        """Returns the bytes that one example adds to the value; all of them if there is no batch axis."""
        return math.prod(size for size in self.shape if size != BATCH) * self.dtype.itemsize
