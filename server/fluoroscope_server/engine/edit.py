"""Edits: interventions that write at sites while the network runs, before they meet a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from fluoroscope_server.engine.capture import Slice
    from fluoroscope_server.engine.site import SiteKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Zero:
    """Writes zeros."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Set:
    """Writes given values."""

    value: np.ndarray
    """The values; they broadcast to the part of the site's value that is edited."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Add:
    """Adds given values: a steering vector."""

    value: np.ndarray
    """What to add; broadcasts to the part of the site's value that is edited."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scale:
    """Multiplies by given factors."""

    factor: np.ndarray
    """The factors; they broadcast to the part of the site's value that is edited."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanAblate:
    """Writes the mean over the examples of the batch, all of them, whichever are edited."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchFromRow:
    """Writes what the site's value is for other examples of the batch, before this edit."""

    sources: tuple[int, ...]
    """Which example each edited one takes it from; one for all of them, or one for each. Negative ones count from
    the last."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PatchFromInputs:
    """Writes what the site's value is when the network runs, unedited, on other inputs."""

    inputs: Mapping[str, np.ndarray]
    """These inputs by name: as many examples as the batch has, each for its own, or one for all. Checked already; empty
    where nothing will run."""


Change: TypeAlias = Zero | Set | Add | Scale | MeanAblate | PatchFromRow | PatchFromInputs
"""What an edit does to a value."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Edit:
    """Where to write, and what."""

    sites: tuple[str, ...]
    """Names and globs of sites. A site that a glob matches and that cannot be edited so is left as it is."""

    kinds: tuple[SiteKind, ...] = ()
    """The kinds of site to keep; empty means all."""

    change: Change
    """What to do to each value."""

    rows: tuple[int, ...] = ()
    """The examples to edit; negative ones count from the last, empty means all."""

    slices: tuple[Slice, ...] = ()
    """The part of each axis to edit; of an axis that is not named, all of it."""

    units: tuple[int, ...] = ()
    """The indices of the last axis to edit; negative ones count from the last, empty means all."""
