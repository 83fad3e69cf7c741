"""What single units do: which are the greatest, and which are dead. Units are the last axis of a value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TopElements:
    """The greatest elements along the last axis, the greatest first. NaN counts as greater than all numbers."""

    values: np.ndarray
    """The elements, `(..., k)`, in their own dtype, or that of a cast; float32 if it was int8."""

    indices: np.ndarray
    """Where in the last axis they are, int32 `(..., k)`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SiteDeadUnits:
    """How often each unit is zero, and so which are dead: zero in every sample.

    Those of several batches add up, and exactly: `sum(batches[1:], batches[0])` is of the whole data set.
    """

    zero_counts: np.ndarray
    """In how many samples each unit is zero, int64 `(units,)`."""

    sample_count: int
    """How many samples there are: examples, times positions."""

    @property
    def indices(self) -> np.ndarray:
        """Returns which units are dead."""
        return np.flatnonzero(self.zero_counts == self.sample_count)

    @property
    def count(self) -> int:
        """Returns how many units are dead."""
        return len(self.indices)

    @property
    def zero_fractions(self) -> np.ndarray:
        """Returns the share of samples in which each unit is zero, float64 `(units,)`; NaN without samples."""
        count = self.sample_count or float("nan")
        fractions: np.ndarray = self.zero_counts / count
        return fractions

    def __add__(self, other: SiteDeadUnits) -> SiteDeadUnits:
        """Returns the counts of both, of different samples of the same site.

        Raises:
            ValueError: They have not as many units.
        """
        if self.zero_counts.shape != other.zero_counts.shape:
            raise ValueError(f"there are {len(self.zero_counts)} units here and {len(other.zero_counts)} there")
        return SiteDeadUnits(
            zero_counts=self.zero_counts + other.zero_counts, sample_count=self.sample_count + other.sample_count
        )
