"""An inspection that was only planned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fluoroscope_server.engine import Cost, Inspection, Program


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedInspection:
    """What an inspection would bring and cost. Nothing has run."""

    inspection: Inspection
    """The resolved question."""

    cost: Cost
    """What it costs."""

    program: Program | None
    """The program that would answer it, if it is held."""

    refusal: str
    """Why a limit forbids it; empty if none does."""
