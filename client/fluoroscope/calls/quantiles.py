"""Quantiles of a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteQuantiles:
    """Quantiles of the finite elements of the value at one site, as `numpy.quantile` has them.

    Like a mapping from the probabilities, over which it iterates, to the quantiles.
    """

    probabilities: tuple[float, ...]
    """What was asked for."""

    values: tuple[float, ...]
    """The quantile of each probability; NaN if no element is finite."""

    finite_count: int
    """How many elements are finite."""

    def __getitem__(self, probability: float) -> float:
        """Returns the quantile of a probability that was asked for: `quantiles[0.5]` is the median."""
        try:
            return self.values[self.probabilities.index(probability)]
        except ValueError:
            known = ", ".join(map(str, self.probabilities))
            raise KeyError(f"no quantile of {probability}; those that were asked for are {known}") from None

    def __contains__(self, probability: object) -> bool:
        return probability in self.probabilities

    def __iter__(self) -> Iterator[float]:
        return iter(self.probabilities)
