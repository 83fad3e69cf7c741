"""What every reduction is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    import jax
    import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueSpec:
    """A captured value, before it is reduced."""

    site: str
    """The path of its site."""

    dtype: np.dtype
    """The type of each element."""

    shape: tuple[int, ...]
    """The size of each axis after slicing; `BATCH` marks the batch axis, unless that was sliced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One tensor of a result."""

    name: str = ""
    """What tells it from the other parts; empty if there are none."""

    dtype: np.dtype
    """The type of each element."""

    shape: tuple[int, ...]
    """The size of each axis; `BATCH` marks the batch axis, whose rows that only fill a bucket are cut off."""

    exact: bool = False
    """Whether the elements are counts or indices, which no cast touches."""


class Reduction(Protocol):
    """A computation on one captured value. A frozen dataclass: it is part of a plan, and hashable.

    What it compares by is what shapes the result. Fields that are only numbers (a threshold, the ends of a range)
    come to `compute` as an argument of the program, so that they never cause a compile. They are
    `field(compare=False, repr=False)`: the order of a plan is that of what its reductions print.
    """

    @property
    def numbers(self) -> tuple[float, ...]:
        """The numbers that are an argument of the program."""
        ...

    @property
    def is_summary(self) -> bool:
        """Whether the result is a few numbers, whatever the value: then there are no parts."""
        ...

    def check(self, value: ValueSpec, *, field: str) -> None:
        """Raises InvalidRequestError, which blames `field`, if this value cannot be reduced so."""
        ...

    def parts(self, value: ValueSpec) -> tuple[Part, ...]:
        """Returns the tensors that the result is; none if it is a few numbers, a summary."""
        ...

    def compute(self, value: jax.Array, valid: jax.Array | None, numbers: jax.Array) -> tuple[jax.Array, ...]:
        """Returns the result as arrays, one for each part; traced, so pure.

        Args:
            value: the captured value, of any shape.
            valid: a mask that broadcasts to the value, False where rows only fill a bucket; None means all valid.
            numbers: `numbers`, a float32 array.
        """
        ...

    def read(self, arrays: Sequence[np.ndarray], count: int) -> Any:
        """Returns the summary that `compute` left on the device, of a value of `count` elements.

        Only called where there are no parts.
        """
        ...
