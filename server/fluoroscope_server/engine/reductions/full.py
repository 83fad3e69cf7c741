"""The value as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fluoroscope_server.engine.reductions.reduction import Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    import jax
    import numpy as np

    from fluoroscope_server.engine.reductions.reduction import ValueSpec


@dataclass(frozen=True, slots=True)
class Full:
    """The value as it is; rows that only fill a bucket are cut off when it is sent."""

    numbers = ()
    is_summary = False

    def check(self, value: ValueSpec, *, field: str) -> None:
        """Accepts every value."""

    def parts(self, value: ValueSpec) -> tuple[Part, ...]:
        """Returns the value as the one part."""
        return (Part(dtype=value.dtype, shape=value.shape),)

    def compute(self, value: jax.Array, valid: jax.Array | None, numbers: jax.Array) -> tuple[jax.Array, ...]:  # noqa: ARG002 (cut off when sent)
        """Returns the value."""
        return (value,)

    def read(self, arrays: Sequence[np.ndarray], count: int) -> Any:
        """Is never called: the value is a tensor."""
        raise NotImplementedError
