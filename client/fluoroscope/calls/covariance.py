"""How the units of a value vary together. Units are the last axis; all else are samples."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SiteCovariance:
    """The covariance of all pairs of units, divided by the number of samples.

    Those of several batches add up: `sum(batches[1:], batches[0])` is of the whole data set.
    """

    matrix: np.ndarray
    """The covariances, `(units, units)`: float32, or float64 of a sum."""

    mean: np.ndarray
    """The mean of each unit, `(units,)`."""

    sample_count: int
    """How many samples there are."""

    def __add__(self, other: SiteCovariance) -> SiteCovariance:
        """Returns the covariance of both together, of different samples of the same site, computed in float64.

        The formula is that of Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing
        sample variances" (1979).

        Raises:
            ValueError: They have not as many units.
        """
        if self.mean.shape != other.mean.shape:
            raise ValueError(f"there are {len(self.mean)} units here and {len(other.mean)} there")
        if not self.sample_count or not other.sample_count:
            some = self if self.sample_count else other
            return replace(some, matrix=some.matrix.astype(np.float64), mean=some.mean.astype(np.float64))
        count = self.sample_count + other.sample_count
        mine, theirs = self.sample_count / count, other.sample_count / count
        apart = other.mean.astype(np.float64) - self.mean
        between = mine * theirs * np.outer(apart, apart)
        return SiteCovariance(
            matrix=mine * self.matrix.astype(np.float64) + theirs * other.matrix + between,
            mean=self.mean + theirs * apart,
            sample_count=count,
        )

    @property
    def correlation(self) -> np.ndarray:
        """Returns Pearson's correlation of all pairs, `(units, units)`; NaN for units that do not vary."""
        std = np.sqrt(np.diag(self.matrix))
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.clip(self.matrix / std[:, None] / std[None, :], -1, 1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SiteCorrelation:
    """Pearson's correlation of all pairs of units."""

    matrix: np.ndarray
    """The correlations, float32 `(units, units)`; NaN for units that do not vary."""

    mean: np.ndarray
    """The mean of each unit, float32 `(units,)`."""

    std: np.ndarray
    """The population standard deviation of each unit, float32 `(units,)`."""

    sample_count: int
    """How many samples there are."""

    @property
    def covariance(self) -> SiteCovariance:
        """Returns the covariance, which adds up over batches; zero for units that do not vary."""
        spread = np.where(np.outer(self.std, self.std) == 0, 0, self.matrix)
        matrix = spread * self.std[:, None] * self.std[None, :]
        return SiteCovariance(matrix=matrix, mean=self.mean, sample_count=self.sample_count)
