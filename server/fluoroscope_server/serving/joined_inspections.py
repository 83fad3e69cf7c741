"""Inspections that are joined: those that ask the same of one model while the device is busy."""

from __future__ import annotations

import contextlib
import functools
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fluoroscope_server.engine import joined, own_results, wait
from fluoroscope_server.errors import LimitExceededError, UnavailableError
from fluoroscope_server.serving.batcher import Batcher, begin, end
from fluoroscope_server.serving.inputs import pad_inputs
from fluoroscope_server.serving.turns import Turn

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Hashable, Mapping, Sequence

    import numpy as np

    from fluoroscope_server.engine import Common, Engine, Inspection, Program, Result
    from fluoroscope_server.engine.plan import Plan
    from fluoroscope_server.serving.batcher import Job
    from fluoroscope_server.serving.device_queue import DeviceQueue
    from fluoroscope_server.serving.stages import StageClock
    from fluoroscope_server.serving.tally import Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedInspection:
    """An inspection, with all that it takes to run it alone."""

    inspection: Inspection
    """The resolved question."""

    program: Program
    """The program that answers it alone."""

    inputs: Mapping[str, np.ndarray]
    """Every input by name, checked."""


TOGETHER_BYTES = 16 << 20
"""How much those that go together may send together, and so how much there is of it on the device at once."""

_Batcher = Batcher[AskedInspection, "list[Result]"]


class JoinedInspections:
    """Joins the inspections of one model that have everything in common but their rows.

    They go together in a program for a larger batch. Nobody waits for the compiler: if that program is not held, it is
    compiled meanwhile, and those who wait go together as far as a smaller one allows.
    """

    def __init__(self, engine: Engine, device: DeviceQueue, tally: Tally, *, name: str) -> None:
        """Takes the engine of the model, where it runs, what counts its batches, and the model's name."""
        self._engine = engine
        self._device = device
        self._tally = tally
        self._name = name
        self._batchers: dict[Common, _Batcher] = {}

    def __len__(self) -> int:
        """Returns how many different questions are held."""
        return len(self._batchers)

    def submit(
        self, common: Common, asked: AskedInspection, clock: StageClock, client: Hashable
    ) -> asyncio.Future[list[Result]]:
        """Adds an inspection; the future has its results. Cancel it to take it back.

        Args:
            common: what it has in common with those that it may go with.
            asked: the inspection.
            clock: measures the stages.
            client: who asks.
        """
        batcher = self._batchers.get(common)
        if batcher is None:
            self._batchers = {each: known for each, known in self._batchers.items() if not known.idle}
            batcher = self._batchers[common] = self._batcher(asked.inspection)
        return batcher.submit(asked, asked.inspection.rows, clock, client=client)

    def _batcher(self, first: Inspection) -> _Batcher:
        row_bytes = first.byte_size / first.rows
        most = max((bucket for bucket in self._engine.buckets if bucket * row_bytes <= TOGETHER_BYTES), default=0)
        return Batcher(
            functools.partial(inspect_batch, self._engine, self._tally),
            self._device,
            max_rows=most,
            expected_seconds=lambda _: math.inf,
            name=self._name,
            turn=Turn.INSPECTION,
            room=functools.partial(self._room, first.plan, most),
        )

    def _room(self, plan: Plan, most: int, rows: int) -> int:
        """Returns how many rows may go together when so many wait: as many as a program that is held has room for."""
        engine = self._engine
        plans = {bucket: replace(plan, bucket=bucket) for bucket in engine.buckets}
        wanted = engine.bucket_for(min(rows, most))
        with contextlib.suppress(LimitExceededError, UnavailableError):  # the compiler is busy: then not this time
            engine.program(plans[wanted])
        return max((bucket for bucket in plans if 1 < bucket <= wanted and engine.held(plans[bucket])), default=0)


def inspect_batch(engine: Engine, tally: Tally, jobs: Sequence[Job[AskedInspection]]) -> list[list[Result]]:
    """Answers inspections that go together, each with its own rows; counts the batch.

    One alone runs in its own program.
    """
    inspections = [job.asked.inspection for job in jobs]
    program = jobs[0].asked.program if len(jobs) == 1 else _held(engine, inspections)
    tally.executed()
    clock = begin(jobs)
    padded = pad_inputs([job.asked.inputs for job in jobs], engine.signature, program.plan.bucket)
    clock.lap("pad")
    stages = list(engine.run(program, padded, joined(inspections, program.plan)))
    for results in stages:
        wait(results)
    clock.lap("compute")
    end(jobs, clock)
    return list(own_results(inspections, [arrays for results in stages for arrays in results]))


def _held(engine: Engine, inspections: Sequence[Inspection]) -> Program:
    """Returns the smallest program that is held and takes all their rows."""
    rows, plan = sum(each.rows for each in inspections), inspections[0].plan
    plans = (replace(plan, bucket=bucket) for bucket in engine.buckets if bucket >= rows)
    found = next(filter(None, map(engine.held, plans)), None)
    if found is None:  # it was pushed out since they were put together: now each is run alone
        raise UnavailableError("the program for inspections that go together is no longer held")
    return found
