"""Targets: the part of one site's value that an edit changes, and what it writes there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from fluoroscope_server.engine.edit import Add, MeanAblate, PatchFromInputs, PatchFromRow, Scale, Set
from fluoroscope_server.engine.operand import as_dtype, spread
from fluoroscope_server.errors import InvalidRequestError, LimitExceededError, counted
from fluoroscope_server.signature import BATCH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fluoroscope_server.engine.edit import Change, Edit
    from fluoroscope_server.engine.site import Site
    from fluoroscope_server.engine.site_table import SiteTable

MOST_EDITS = 1_000
"""How many edits one request may have."""

MOST_TARGETS = 5_000
"""How many sites all edits of one request may mean together: each is code of the program."""

MOST_TRIED = 50_000
"""How many sites these edits may choose, those that cannot be edited so and are left as they are included."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Target:
    """What one edit does to one site's value."""

    edit: Edit
    """The edit."""

    number: int
    """Its place in the request."""

    site: Site
    """The site."""

    indices: tuple[np.ndarray | None, ...]
    """Which indices of each axis are edited; None means all."""

    operand: np.ndarray | None
    """The array that is written, added or multiplied by, in the site's dtype; None if the edit has none."""

    varying: tuple[int, ...]
    """The axes along which it differs; the others have size one."""


def check_edits(count: int) -> None:
    """Raises LimitExceededError if these are too many edits. Ask before any of them is looked at."""
    if count > MOST_EDITS:
        raise LimitExceededError(
            f"the request has {count:,} edits, and the limit is {MOST_EDITS:,}: one edit may name many sites",
            field="edits",
            reason="TOO_MANY_EDITS",
        )


def choose(edits: Sequence[Edit], sites: SiteTable, *, rows: int) -> list[Target]:
    """Returns the targets of edits, in the order of the edits, and then of execution.

    Args:
        edits: what to change.
        sites: the sites of the network.
        rows: how many examples the inputs hold.

    Raises:
        NotFoundError: a name is no site.
        NotCapturableError: the value of a site that is named cannot be reached.
        InvalidRequestError: a site that is named, or all that a glob matches, cannot be edited so; or a glob matches
            nothing.
        LimitExceededError: there are too many globs, or sites that the edits mean.
    """
    sites.check([edit.sites for edit in edits], field="edits")
    found: list[Target] = []
    tried = 0
    for number, edit in enumerate(edits):
        chosen = sites.select(edit.sites, edit.kinds, field=f"edits[{number}]")
        tried += len(chosen)
        _check_count(tried, "choose", MOST_TRIED)
        found += _targets(edit, number, chosen, rows)
        _check_count(len(found), "mean", MOST_TARGETS)
    return found


def _check_count(count: int, what: str, most: int) -> None:
    if count > most:
        raise LimitExceededError(
            f"the edits {what} {count:,} sites or more, and the limit is {most:,}: choose fewer sites",
            field="edits",
            reason="TOO_MANY_EDITS",
        )


def _targets(edit: Edit, number: int, chosen: Sequence[Site], rows: int) -> list[Target]:
    """Returns the targets of one edit: of the sites that globs match, those that can be edited so."""
    named = set(edit.sites)
    found: list[Target] = []
    refused: InvalidRequestError | None = None
    for site in chosen:
        try:
            found.append(_target(edit, number, site, rows))
        except InvalidRequestError as error:
            if site.path in named:
                raise
            refused = refused or error
    if refused is not None and not found:
        raise refused
    return found


def _target(edit: Edit, number: int, site: Site, rows: int) -> Target:
    field = f"edits[{number}]"
    sizes = [rows if size == BATCH else size for size in site.shape]
    indices = _indices(edit, site, sizes, field)
    operand: np.ndarray | None = None
    varying: tuple[int, ...] = ()
    match edit.change:
        case Set(value=array) | Add(value=array) | Scale(factor=array):
            chosen = [np.arange(size) if each is None else each for each, size in zip(indices, sizes, strict=True)]
            what, place = _words(edit.change, field)
            _check_arithmetic(edit.change, site, field)
            operand = as_dtype(array, site, what=what, field=place)
            operand, varying = spread(operand, chosen, sizes, site, what=what, field=place)
        case MeanAblate():
            _check_batch(site, "a mean over the batch", field)
            _check_arithmetic(edit.change, site, field)
        case PatchFromRow(sources=sources):
            _check_batch(site, "a patch from another example", field)
            _check_sources(sources, len(edit.rows) or rows, rows, f"{field}.patch_from_row.rows")
        case PatchFromInputs():
            _check_batch(site, "a patch from other inputs", field)
    return Target(edit=edit, number=number, site=site, indices=indices, operand=operand, varying=varying)


def _check_arithmetic(change: Change, site: Site, field: str) -> None:
    """Raises InvalidRequestError if the values of a site are of no numbers that can be changed so."""
    wanted = jnp.floating if isinstance(change, MeanAblate) else jnp.number
    if not isinstance(change, Set) and not jnp.issubdtype(site.dtype, wanted):
        what = "means are of floats" if isinstance(change, MeanAblate) else "there is no arithmetic on truth values"
        raise InvalidRequestError(
            f"site {site.path!r} is {site.dtype}, and {what}: set it, or patch it", field=field, reason="WRONG_DTYPE"
        )


def _check_sources(sources: Sequence[int], edited: int, rows: int, field: str) -> None:
    if len(sources) not in {1, edited}:
        raise InvalidRequestError(
            f"{counted(len(sources), 'row')} to patch from came for {counted(edited, 'edited row')}: "
            "give one for all, or one for each",
            field=field,
        )
    normal(sources, rows, what=f"the batch has {counted(rows, 'row')}", field=field)


def _words(change: Set | Add | Scale, field: str) -> tuple[str, str]:
    """Returns what the array of a change is called, for people and in the request."""
    name = "factor" if isinstance(change, Scale) else "value"
    return name, f"{field}.{type(change).__name__.lower()}.{name}"


def _indices(edit: Edit, site: Site, sizes: Sequence[int], field: str) -> tuple[np.ndarray | None, ...]:
    """Returns the chosen indices of each axis."""
    count = len(sizes)
    chosen: list[tuple[int, np.ndarray, str]] = []
    for index, each in enumerate(edit.slices):
        place = f"{field}.slices[{index}]"
        axis = each.axis_of(count, site=site.path, field=place)
        chosen.append((axis, np.array(each.range_of(sizes[axis], axis=axis, site=site.path, field=place)), place))
    if edit.rows:
        axis, place = _check_batch(site, "a choice of rows", field), f"{field}.rows"
        chosen.append(
            (
                axis,
                _different(edit.rows, sizes[axis], what=f"the batch has {counted(sizes[axis], 'row')}", field=place),
                place,
            )
        )
    if edit.units:
        place = f"{field}.units"
        if not sizes or site.batch_axis == count - 1:
            raise InvalidRequestError(
                f"site {site.path!r} has no units: they are the last axis, and that is not the batch", field=place
            )
        what = f"site {site.path!r} has {sizes[-1]} units"
        chosen.append((count - 1, _different(edit.units, sizes[-1], what=what, field=place), place))
    found: dict[int, np.ndarray] = {}
    for axis, indices, place in chosen:
        if axis in found:
            raise InvalidRequestError(f"axis {axis} of site {site.path!r} is chosen from twice", field=place)
        found[axis] = indices
    return tuple(found.get(axis) for axis in range(count))


def normal(numbers: Sequence[int], size: int, *, what: str, field: str) -> np.ndarray:
    """Returns indices counted from the first; raises InvalidRequestError if one is out of range."""
    given = np.array(numbers, np.int64)
    outside = np.flatnonzero((given < -size) | (given >= size))
    if outside.size:
        place = int(outside[0])
        raise InvalidRequestError(
            f"{numbers[place]} is out of range: {what}, 0 to {size - 1}",
            field=f"{field}[{place}]",
            reason="INDEX_OUT_OF_RANGE",
        )
    return given % size


def _different(numbers: Sequence[int], size: int, *, what: str, field: str) -> np.ndarray:
    if len(numbers) > size:
        raise InvalidRequestError(f"{len(numbers):,} numbers came, which cannot be all different: {what}", field=field)
    found = normal(numbers, size, what=what, field=field)
    indices, counts = np.unique(found, return_counts=True)
    if len(indices) < len(found):
        raise InvalidRequestError(
            f"index {indices[counts > 1][0]} is named twice, counted from the first: {what}", field=field
        )
    return found


def _check_batch(site: Site, what: str, field: str) -> int:
    """Returns the batch axis of a site; raises InvalidRequestError if it has none."""
    if site.batch_axis is None:
        raise InvalidRequestError(
            f"site {site.path!r} has no batch axis, and {what} needs one: it is the same for any batch", field=field
        )
    return site.batch_axis
