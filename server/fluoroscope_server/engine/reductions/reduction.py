"""What every reduction is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import jax
    import numpy as np


class Reduction(Protocol):
    """A computation on one captured value. A frozen dataclass: it is part of a plan, and hashable.

    Its fields are what shapes the result; numbers that do not are arguments of the program.
    """

    @property
    def gives_tensor(self) -> bool:
        """Whether the result is one tensor, sent in chunks; otherwise it is a few numbers, sent as a summary."""
        ...

    def check(self, dtype: np.dtype, site: str, *, field: str) -> None:
        """Raises InvalidRequestError, which blames `field`, if values of this dtype cannot be reduced so."""
        ...

    def compute(self, value: jax.Array, valid: jax.Array | None) -> tuple[jax.Array, ...]:
        """Returns the result as arrays; traced, so pure.

        Args:
            value: the captured value, of any shape.
            valid: a mask that broadcasts to the value, False where rows only fill a bucket; None means all valid.
        """
        ...
