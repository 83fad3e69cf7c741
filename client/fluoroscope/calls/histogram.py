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

    Each element is counted once: in a bin, below, above, or as NaN. Those of several batches with the same range add
    up, and exactly: `sum(batches[1:], batches[0])` is of the whole data set.
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

    def __add__(self, other: SiteHistogram) -> SiteHistogram:
        """Returns the counts of both, of different elements of the same site.

        Raises:
            ValueError: They have not the same bins. Ask each batch with the same `low` and `high`.
        """
        mine, theirs = ((each.low, each.high, len(each.counts)) for each in (self, other))
        if mine != theirs:
            low, high, bins = theirs
            raise ValueError(
                f"there are {mine[2]} bins from {mine[0]} to {mine[1]} here and {bins} from {low} to {high} there: "
                "ask each batch with the same bins, low and high"
            )
        return SiteHistogram(
            low=self.low,
            high=self.high,
            counts=self.counts + other.counts,
            below_count=self.below_count + other.below_count,
            above_count=self.above_count + other.above_count,
            nan_count=self.nan_count + other.nan_count,
        )

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
