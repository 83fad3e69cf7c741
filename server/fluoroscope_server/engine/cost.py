"""The cost of an inspection, known before it is compiled."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What an inspection costs."""

    flops: float
    """How many floating point operations it does, as XLA counts them."""

    fraction: float
    """The same as a part of those of the whole network at this batch size."""

    stage_count: int
    """How many stages bring results, one after the other; 1 if it is fused."""
