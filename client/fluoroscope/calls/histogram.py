"""How the elements of a value are spread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fluoroscope.v1 import inspection_pb2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SiteHistogram:
    """The histogram of the value at one site, computed in float32 on the device.

    Each element is counted once: in a bin, below, above, or as NaN.
    """

    low: float
    """The left edge of the first bin; NaN if it was to be found and no element is finite."""

    high: float
    """The right edge of the last bin, which belongs to it; NaN as `low`."""

    counts: np.ndarray
    """How many elements each bin holds, int64 `(bins,)`."""

    below_count: int
    """How many elements are less than `low`, minus infinity included."""

    above_count: int
    """How many elements are greater than `high`, infinity included."""

    nan_count: int
    """How many elements are NaN."""

    @property
    def edges(self) -> np.ndarray:
        """Returns the edges of the bins, float64 `(bins + 1,)`, as `numpy.histogram` does."""
        return np.linspace(self.low, self.high, len(self.counts) + 1)

    @classmethod
    def from_wire(cls, message: inspection_pb2.Histogram) -> SiteHistogram:
        """Returns the histogram of a message."""
        return cls(
            low=message.low,
            high=message.high,
            counts=np.asarray(message.counts, np.int64),
            below_count=message.below_count,
            above_count=message.above_count,
            nan_count=message.nan_count,
        )
