"""Comparing two servables, or one with itself on other inputs."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fluoroscope_server.allocator import Spare
from fluoroscope_server.engine import Side, pair, run_comparison
from fluoroscope_server.errors import FluoroscopeError, InvalidRequestError, counted
from fluoroscope_server.keys import Scope, caller
from fluoroscope_server.serving.inputs import check_inputs, pad_inputs
from fluoroscope_server.serving.limits import DEFAULT_LIMITS
from fluoroscope_server.serving.servable import SPARE_BYTES
from fluoroscope_server.serving.turns import Turn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Hashable, Iterator, Mapping, Sequence

    import numpy as np

    from fluoroscope_server.engine import Comparison, Program, SiteDifference, SiteKind, Tolerance
    from fluoroscope_server.engine.difference import DifferencePrograms
    from fluoroscope_server.engine.program_cache import Requested
    from fluoroscope_server.serving.device_queue import DeviceQueue
    from fluoroscope_server.serving.limits import Limits
    from fluoroscope_server.serving.servable import Servable
    from fluoroscope_server.serving.stages import StageClock

BATCH_SECONDS = 0.01
"""About how long a comparison keeps a thread of the device before it lets others go first."""

_spare = Spare()


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedSide:
    """What is asked of one side."""

    servable: Servable
    """The version that runs."""

    inputs: Mapping[str, np.ndarray]
    """Its inputs by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonAnswer:
    """What a comparison brings. Nothing has run until `differences` is iterated."""

    comparison: Comparison
    """The resolved question."""

    sides: tuple[ComparedSide, ComparedSide]
    """The left side, and the right."""

    programs: tuple[Program, Program]
    """The program of each side."""

    held: tuple[bool, bool]
    """Whether each of them was held already; otherwise this request waited for the compiler."""

    run: Iterator[SiteDifference]
    """Runs both sides, as far as it is asked."""

    device: DeviceQueue
    """Where they run."""

    key: Hashable = ""
    """Whose it is: keys take turns on the device."""

    async def differences(self) -> AsyncIterator[list[SiteDifference]]:
        """Runs both sides and yields how far apart they are, site after site; others use the device in between."""
        while found := await self.device.submit(self._advance, turn=Turn.INSPECTION, key=self.key):
            yield found

    def _advance(self) -> list[SiteDifference]:
        """Returns the next few; none if there are no more."""
        found = []
        end = time.perf_counter() + BATCH_SECONDS
        for difference in self.run:
            found.append(difference)
            if time.perf_counter() >= end:
                break
        _spare.bound(SPARE_BYTES + sum(program.peak_bytes for program in self.programs))
        return found


async def compare(
    left: ComparedSide,
    right: ComparedSide,
    *,
    sites: Sequence[str],
    kinds: Collection[SiteKind],
    tolerance: Tolerance,
    clock: StageClock,
    client: Hashable = "",
    limits: Limits = DEFAULT_LIMITS,
) -> ComparisonAnswer:
    """Resolves a comparison, waits for what must be compiled, and returns the answer.

    On the device it is an inspection like any other: clients, told apart by `client`, take turns.

    Raises:
        PermissionDeniedError: the caller may not look inside.
        NotFoundError, NotCapturableError, InvalidRequestError: the question fits neither side, or the two have other
            numbers of rows.
        LimitExceededError: there are too many rows, sites or globs, or too much is being compiled.
    """
    caller().require(Scope.INSPECT)
    rows = [_rows(side, name, limits) for name, side in (("left", left), ("right", right))]
    if rows[0] != rows[1]:
        raise InvalidRequestError(
            f"the inputs of the left side have {counted(rows[0], 'row')}, and those of the right {rows[1]}: "
            "send as many on both, in the same order",
            field="right.inputs",
            reason="ROWS_DIFFER",
        )
    comparison = pair(left.servable.engine, right.servable.engine, sites, kinds, rows=rows[0])
    limits.check_results(len(comparison.sites), field="sites")
    clock.lap("decode")
    futures = _requested(comparison, left, right)
    first, second, differences = await asyncio.gather(*map(asyncio.wrap_future, futures))
    clock.lap("compile")
    return ComparisonAnswer(
        comparison=comparison,
        sides=(left, right),
        programs=(first, second),
        held=(futures[0].held, futures[1].held),
        run=_run(comparison, (left, right), (first, second), differences, tolerance=tolerance, clock=clock),
        device=left.servable.device,
        key=(left.servable.name, client),
    )


@contextlib.contextmanager
def blaming(side: str) -> Iterator[None]:
    """Lets errors say which side of the request they are about."""
    try:
        yield
    except FluoroscopeError as error:
        if error.field is not None and error.field != "model":
            error.field = f"{side}.{error.field}"
            error.message = f"on the {side} side, {error.message}"
            error.args = (error.message,)
        raise


def _rows(side: ComparedSide, name: str, limits: Limits) -> int:
    engine = side.servable.engine
    with blaming(name):
        rows = check_inputs(side.inputs, engine.signature)
        limits.check_rows(rows)
        engine.bucket_for(rows)
    return rows


def _requested(comparison: Comparison, left: ComparedSide, right: ComparedSide) -> list[Requested[Any]]:
    """Returns the programs of both sides, and those that compare them, once they are compiled."""
    futures: list[Requested[Any]] = []
    try:
        for side, inspection in zip((left, right), comparison.inspections, strict=True):
            futures.append(side.servable.engine.program(inspection.plan))
        futures.append(left.servable.engine.differences(comparison.distinct))
    except FluoroscopeError:
        for future in futures:
            future.cancel()
        raise
    return futures


def _run(
    comparison: Comparison,
    sides: tuple[ComparedSide, ComparedSide],
    programs: tuple[Program, Program],
    differences: DifferencePrograms,
    *,
    tolerance: Tolerance,
    clock: StageClock,
) -> Iterator[SiteDifference]:
    """Runs both sides where it is iterated: on the device's threads."""
    clock.lap("queue")
    left, right = (
        Side(
            engine=side.servable.engine,
            program=program,
            inputs=pad_inputs([side.inputs], side.servable.engine.signature, program.plan.bucket),
        )
        for side, program in zip(sides, programs, strict=True)
    )
    clock.lap("pad")
    laps = iter(("compute",))
    for difference in run_comparison(comparison, (left, right), differences, tolerance):
        for stage in laps:  # of the first; the rest is a part of sending
            clock.lap(stage)
        yield difference
