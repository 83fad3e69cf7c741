"""The value as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jax
    import numpy as np


@dataclass(frozen=True, slots=True)
class Full:
    """The value as it is; rows that only fill a bucket are cut off when it is sent."""

    gives_tensor = True

    def check(self, dtype: np.dtype, site: str, *, field: str) -> None:
        """Accepts every dtype."""

    def compute(self, value: jax.Array, valid: jax.Array | None) -> tuple[jax.Array, ...]:  # noqa: ARG002 (cut off when sent)
        """Returns the value."""
        return (value,)
