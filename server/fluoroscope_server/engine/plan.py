"""Plans: what a program must compute, as one hashable value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fluoroscope_server.engine.reductions import Reduction


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """The part of a slice that shapes the result; where it starts is an argument of the program."""

    axis: int
    """The axis, not negative."""

    extent: int
    """How many indices from the first taken to the last, both included."""

    step: int
    """Take each step-th of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedValue:
    """One site, and what becomes of its value."""

    site: str
    """The path of the site."""

    cuts: tuple[Cut, ...]
    """How the value is cut, by axis."""

    reduction: Reduction
    """What is computed of what is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one program computes. Equal questions are equal plans, in whatever order they were asked."""

    bucket: int
    """The batch size; 0 of a plan of parameters, for which nothing runs."""

    captured: tuple[CapturedValue, ...] = ()
    """The captured values, in execution order."""

    staged: bool = False
    """Whether it runs in stages, so that the first values can be sent while the last are computed."""

    @property
    def of_parameters(self) -> bool:
        """Returns whether what it captures are parameters, and not activations."""
        return self.bucket == 0
