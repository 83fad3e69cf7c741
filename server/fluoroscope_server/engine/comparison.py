"""Comparisons: what two networks, or one on two inputs, compute at the same sites.

Both sides run as a staged capture of whole values, in lockstep: a pair of values is reduced to a few numbers on the
device and let go before the next is computed. So no more is held than two stages' values of each side, however many
sites there are.
"""

from __future__ import annotations

import bisect
import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from fluoroscope_server.engine.capture import Capture
from fluoroscope_server.engine.difference import PairSpec, read_difference
from fluoroscope_server.engine.glob import is_glob
from fluoroscope_server.engine.inspection import Execution
from fluoroscope_server.errors import InvalidRequestError, NotCapturableError, NotFoundError
from fluoroscope_server.signature import BATCH, describe

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from fluoroscope_server.engine.difference import DifferencePrograms, Pairs, SiteDifference, Tolerance
    from fluoroscope_server.engine.engine import Engine
    from fluoroscope_server.engine.inspection import Inspection
    from fluoroscope_server.engine.program import Program
    from fluoroscope_server.engine.site import Site, SiteKind
    from fluoroscope_server.engine.site_table import SiteTable


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedSite:
    """A site that was asked for, on whichever side has it."""

    left: Site
    """The site of the left side; that of the right, if the left has none of this path."""

    right: Site
    """The site of the right side; that of the left, if the right has none of this path."""

    reason: str = ""
    """Why the two cannot be compared; empty if they can."""

    only: str = ""
    """The side that has it, `left` or `right`; empty if both have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side of a comparison that is run."""

    engine: Engine
    """Runs it."""

    program: Program
    """What it runs: the program of its inspection's plan."""

    inputs: Sequence[np.ndarray]
    """The inputs, padded to the bucket of that plan, in the order of the signature."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A question to two sides, resolved."""

    sites: tuple[ComparedSite, ...]
    """All sites that were asked for, in execution order."""

    inspections: tuple[Inspection, Inspection]
    """The whole values of those that can be compared, on the left and on the right."""

    pairs: tuple[PairSpec, ...]
    """How these are compared, in the same order."""

    sizes: tuple[int, ...]
    """How many elements each of them has, without padding."""

    @property
    def distinct(self) -> Pairs:
        """Returns the pairs that need a program of their own."""
        return frozenset(self.pairs)


def pair(left: Engine, right: Engine, globs: Sequence[str], kinds: Collection[SiteKind], *, rows: int) -> Comparison:
    """Resolves which sites to compare. A site that only one side has, or that differs, is listed with the reason.

    Args:
        left: the network whose values are looked at.
        right: the network whose values are expected; may be the same one.
        globs: names and globs of sites.
        kinds: the kinds to keep; empty means all.
        rows: how many examples the inputs of each side hold.

    Raises:
        NotFoundError, InvalidRequestError, NotCapturableError: neither side has what was asked for, or nothing of it
            can be compared.
        LimitExceededError: there are too many rows, sites or globs.
    """
    sites = _in_one_order(_merged(left, right, _paths(left, right, globs, kinds)))
    found = [each for each in sites if not each.reason]
    if not found:
        first = sites[0]
        raise NotCapturableError(
            f"none of the {len(sites)} sites can be compared; {first.left.path!r}, the first, because {first.reason}",
            field="sites",
            reason="NOTHING_TO_COMPARE",
        )
    capture = Capture(sites=tuple(each.left.path for each in found))
    asked = [engine.inspect([capture], (), rows=rows, execution=Execution.STAGED) for engine in (left, right)]
    buckets = (asked[0].plan.bucket, asked[1].plan.bucket)
    return Comparison(
        sites=sites,
        inspections=(asked[0], asked[1]),
        pairs=tuple(_spec(each, buckets) for each in found),
        sizes=tuple(int(np.prod(result.shape, dtype=np.int64)) for result in asked[0].results),
    )


def run_comparison(
    comparison: Comparison, sides: tuple[Side, Side], differences: DifferencePrograms, tolerance: Tolerance
) -> Iterator[SiteDifference]:
    """Runs both sides in lockstep, stage after stage, as far as it is asked; yields how far apart values are.

    Args:
        comparison: the question.
        sides: the left side, and the right.
        differences: the programs for the question's pairs.
        tolerance: how far apart elements may be.
    """
    left, right = (
        itertools.chain.from_iterable(side.engine.run(side.program, side.inputs, inspection))
        for side, inspection in zip(sides, comparison.inspections, strict=True)
    )
    rows = np.asarray(comparison.inspections[0].rows, np.int32)
    # Infinity times an element that is zero would be no number.
    limits = np.minimum([tolerance.rtol, tolerance.atol], np.finfo(np.float32).max).astype(np.float32)
    for spec, size in zip(comparison.pairs, comparison.sizes, strict=True):
        # Without names for the values, which would hold them while the next are computed.
        arrays = differences.executables[spec](*next(left), *next(right), rows, limits)
        yield read_difference([np.asarray(array) for array in arrays], size)


def _paths(left: Engine, right: Engine, globs: Sequence[str], kinds: Collection[SiteKind]) -> list[str]:
    """Returns the paths that are asked for, each once; a glob must mean something on one side at least."""
    if not globs:
        raise InvalidRequestError("sites is empty; name a site, or use the glob '**' for all", field="sites")
    tables = [left.sites] if left is right else [left.sites, right.sites]
    for table in tables:
        table.check([globs], field="sites")
    chosen: dict[str, None] = {}
    seen: set[str] = set()
    for index, glob in enumerate(globs):
        if glob in seen:
            continue
        seen.add(glob)
        holding = [table for table in tables if _has(table, glob, kinds)] or tables[:1]
        errors = []
        for table in holding:
            try:
                chosen.update((site.path, None) for site in table.select([glob], kinds, field="sites"))
            except (NotFoundError, InvalidRequestError, NotCapturableError) as error:
                error.field = f"sites[{index}]"
                errors.append(error)
        if len(errors) == len(holding):
            raise errors[0]
    return list(chosen)


def _has(table: SiteTable, glob: str, kinds: Collection[SiteKind]) -> bool:
    return table.get(glob) is not None or (is_glob(glob) and bool(table.matching([glob], kinds)))


def _merged(left: Engine, right: Engine, paths: Collection[str]) -> list[ComparedSite]:
    """Returns the sites of both sides in the left one's order; what only the right has follows what it has before."""
    placed: list[tuple[int, int, ComparedSite]] = []
    both: list[tuple[int, int]] = []  # the orders of those that both have, the right one's first
    alone: list[Site] = []
    for path in paths:
        a, b = left.sites.get(path), right.sites.get(path)
        if a is not None and b is not None:
            placed.append((a.order, -1, ComparedSite(left=a, right=b, reason=_reason(a, b))))
            both.append((b.order, a.order))
        elif a is not None:
            placed.append((a.order, -1, _alone(a, "left")))
        elif b is not None:
            alone.append(b)
    both.sort()
    for site in alone:
        before = bisect.bisect_left(both, (site.order,))
        order = both[before - 1][1] if before else -1
        placed.append((order, site.order, _alone(site, "right")))
    return [compared for _, _, compared in sorted(placed, key=lambda each: each[:2])]


def _alone(site: Site, side: str) -> ComparedSite:
    return ComparedSite(left=site, right=site, reason=f"only the {side} side has it", only=side)


def _reason(left: Site, right: Site) -> str:
    """Returns why two sites of the same path cannot be compared; empty if they can."""
    for side, site in (("left", left), ("right", right)):
        if site.reason:
            return f"the {side} side cannot capture it: {site.reason}"
        if jnp.issubdtype(site.dtype, jnp.complexfloating):
            return f"it is {site.dtype} on the {side} side, and comparisons are of real values"
    floats = all(jnp.issubdtype(site.dtype, jnp.floating) for site in (left, right))
    if left.shape != right.shape or not (floats or left.dtype == right.dtype):
        shown = [describe(site.dtype, site.shape) for site in (left, right)]
        return f"it is {shown[0]} on the left side, and {shown[1]} on the right"
    return ""


def _in_one_order(sites: Sequence[ComparedSite]) -> tuple[ComparedSite, ...]:
    """Returns the sites; as few as possible are given a reason, so that both sides compute the others in one order."""
    orders = [(index, each.right.order) for index, each in enumerate(sites) if not each.reason]
    kept = {orders[index][0] for index in _rising([order for _, order in orders])}
    return tuple(
        each if each.reason or index in kept else replace(each, reason="the two sides compute it in another order")
        for index, each in enumerate(sites)
    )


def _rising(numbers: Sequence[int]) -> list[int]:
    """Returns the places of a longest rising subsequence."""
    ends: list[int] = []  # for each length, the least number with which a subsequence of that length ends
    places: list[int] = []  # and its place
    before: list[int | None] = []  # for each number, the place of the one before it in the longest that ends there
    for place, number in enumerate(numbers):
        length = bisect.bisect_left(ends, number)
        before.append(places[length - 1] if length else None)
        ends[length : length + 1] = [number]
        places[length : length + 1] = [place]
    found = []
    at = places[-1] if places else None
    while at is not None:
        found.append(at)
        at = before[at]
    return found


def _spec(compared: ComparedSite, buckets: tuple[int, int]) -> PairSpec:
    left, right = compared.left, compared.right
    shapes = [
        tuple(bucket if size == BATCH else size for size in site.shape)
        for site, bucket in zip((left, right), buckets, strict=True)
    ]
    return PairSpec(dtypes=(left.dtype, right.dtype), shapes=(shapes[0], shapes[1]), batch_axis=left.batch_axis)
