"""What is printed: a comparison of two medians."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One comparison."""

    what: str
    """What was measured."""

    ours: str
    """What fluoroscope reached."""

    theirs: str
    """What the reference reached."""

    ratio: float
    """Ours to theirs."""

    target: str
    """What the ratio must be."""


@dataclass(slots=True)
class Samples:
    """The samples of one figure, by server."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, server: str, value: float) -> None:
        """Adds one round."""
        self.values.setdefault(server, []).append(value)

    def median(self, server: str) -> float:
        """Returns the median over the rounds."""
        return float(np.median(self.values[server]))

    def rate(self, what: str, unit: str, target: str, *, ours: str, theirs: str) -> Row:
        """Returns the comparison of two servers by what each does in a second."""
        mine, reference = self.median(ours), self.median(theirs)
        return Row(
            what=what,
            ours=f"{mine:,.0f} {unit}",
            theirs=f"{reference:,.0f} {unit} ({theirs})",
            ratio=mine / reference,
            target=target,
        )
