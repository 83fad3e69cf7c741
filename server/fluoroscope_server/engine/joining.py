"""Joining: several inspections that ask the same, answered by one run of a larger batch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from fluoroscope_server.engine.plan import Plan
from fluoroscope_server.engine.result import paired

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import jax

    from fluoroscope_server.engine.inspection import Inspection
    from fluoroscope_server.engine.result import Result

JOINED_BYTES = 1 << 20
"""How many bytes an inspection may send that is joined. Larger ones gain little: most of their time is sending."""


@dataclass(frozen=True, slots=True)
class Common:
    """What inspections that go together have in common: everything but their rows."""

    plan: Plan
    """The plan, as if for a single row."""

    arguments: tuple[object, ...]
    """All that the program is run with beside the inputs, and the outputs that are wanted too."""


def common(inspection: Inspection) -> Common | None:
    """Returns what an inspection shares with those that it may be joined with; None if it must go alone.

    It must run as one program, send little, and each of its results must have a row of its own for each row of the
    batch: what is reduced over the rows would be reduced over those of others too.
    """
    plan = inspection.plan
    if plan != Plan(bucket=plan.bucket, captured=plan.captured):  # stages, or whatever else is for one alone
        return None
    if inspection.byte_size > JOINED_BYTES:
        return None
    if any(spec.padded_axis is None or spec.part is None for spec in inspection.results):
        return None
    return Common(
        plan=replace(plan, bucket=1),
        arguments=(inspection.starts, inspection.numbers, inspection.outputs),
    )


def joined(inspections: Sequence[Inspection], plan: Plan) -> Inspection:
    """Returns one inspection of all the rows of several, to run the program of `plan` with; it announces no results."""
    return replace(inspections[0], plan=plan, rows=sum(each.rows for each in inspections), results=())


def own_results(inspections: Sequence[Inspection], results: Sequence[Sequence[jax.Array]]) -> Iterator[list[Result]]:
    """Yields, for each of several inspections that were run as one, its own rows of the results.

    Copied if there are several, so that nobody holds the memory of the others.
    """
    start = 0
    for inspection in inspections:
        found: list[Result] = []
        for spec, arrays in paired(inspection.results, results):
            axis = spec.padded_axis or 0  # all have one, or they would not be joined
            rows = (slice(None),) * axis + (slice(start, start + inspection.rows),)
            own = np.asarray(arrays[0])[rows]
            found.append(own if len(inspections) == 1 else own.copy())
        start += inspection.rows
        yield found
