"""A servable: one version of a model that can answer."""

from __future__ import annotations

import asyncio
import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fluoroscope_server.allocator import Spare
from fluoroscope_server.engine import Execution, check_outputs, common, wait
from fluoroscope_server.errors import LimitExceededError
from fluoroscope_server.serving.answer import Answer
from fluoroscope_server.serving.batcher import lap
from fluoroscope_server.serving.inputs import check_inputs, pad_inputs
from fluoroscope_server.serving.joined_inspections import AskedInspection
from fluoroscope_server.serving.parts import check_rows, predict_in_parts
from fluoroscope_server.serving.planned_inspection import PlannedInspection

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping, Sequence

    from fluoroscope_server.engine import Capture, Engine, Inspection, Program, Results
    from fluoroscope_server.serving.batcher import Batcher, Job
    from fluoroscope_server.serving.device_queue import DeviceQueue
    from fluoroscope_server.serving.joined_inspections import JoinedInspections
    from fluoroscope_server.serving.parts import Inputs, Outputs
    from fluoroscope_server.serving.stages import StageClock

_reading = ThreadPoolExecutor(max_workers=2, thread_name_prefix="read")
_spare = Spare()

SPARE_BYTES = 64 << 20
"""How much memory may lie free while an inspection runs in stages, beside what one of them takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Servable:
    """One version of a model, loaded and compiled."""

    name: str
    """The name of the model."""

    version: int
    """The checkpoint step; 0 if the checkpoint is not one of a series."""

    family: str
    """The family that made the network."""

    engine: Engine
    """Runs the network."""

    device: DeviceQueue
    """Where inspections run."""

    batcher: Batcher[Inputs, Outputs]
    """Where predictions run."""

    inspections: JoinedInspections
    """Where inspections run that may be joined."""

    load_seconds: float
    """How long it took to load, compile and warm up."""

    async def predict(
        self,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],
        clock: StageClock,
        *,
        client: Hashable = "",
        alone: bool = False,
    ) -> dict[str, np.ndarray]:
        """Returns the asked-for outputs, all if none is named, with as many rows as the inputs have.

        If the caller knows that nobody else is calling, it says so with `alone`: what is quick is then done at once.
        Clients, told apart by `client`, take turns.

        Raises:
            InvalidRequestError: the inputs or outputs do not fit the signature.
            LimitExceededError: there are too many rows, or too many others wait.
        """
        signature = self.engine.signature
        rows = check_inputs(inputs, signature)
        size = check_rows(self.engine, rows)
        wanted = check_outputs(outputs, signature) or signature.output_names
        clock.lap("decode")
        if rows > size:
            answer = await predict_in_parts(self.batcher, inputs, rows, clock, size=size, client=client)
        else:
            answer = await self.batcher.submit(inputs, rows, clock, client=client, alone=alone)
        return {name: answer[name] for name in signature.output_names if name in wanted}

    async def inspect(
        self,
        inputs: Mapping[str, np.ndarray],
        captures: Sequence[Capture],
        outputs: Sequence[str],
        *,
        max_bytes: int,
        clock: StageClock,
        execution: Execution = Execution.AUTO,
        client: Hashable = "",
    ) -> Answer:
        """Resolves a question, waits for its program to be compiled if it is not held, and returns the answer.

        Nothing has run yet then; `Answer.results` runs it. Clients, told apart by `client`, take turns on the device.

        Raises:
            NotFoundError, NotCapturableError, InvalidRequestError: the question does not fit the network.
            LimitExceededError: the answer would be too large, there are too many rows, or too much is being compiled.
        """
        rows = check_inputs(inputs, self.engine.signature)
        inspection = self.engine.inspect(captures, outputs, rows=rows, execution=execution)
        refusal = _refusal(inspection, max_bytes)
        if refusal:
            raise LimitExceededError(refusal, field="max_bytes", reason="INSPECTION_TOO_LARGE")
        clock.lap("decode")
        future = self.engine.program(inspection.plan)
        held = future.done()
        program = await asyncio.wrap_future(future)  # who gives up cancels it, and only what nobody else waits for
        clock.lap("compile")
        shared = common(inspection) if self.engine.joined_rows else None
        asked = AskedInspection(inspection=inspection, program=program, inputs=inputs)
        return Answer(
            inspection=inspection,
            program=program,
            held=held,
            run=self._run(program, inspection, inputs, clock),
            device=self.device,
            reading=_reading,
            key=(self.name, client),
            together=None if shared is None else lambda: self.inspections.submit(shared, asked, clock, client),
        )

    async def plan(
        self,
        rows: int,
        captures: Sequence[Capture],
        outputs: Sequence[str],
        *,
        max_bytes: int,
        execution: Execution = Execution.AUTO,
        compile: bool = False,  # noqa: A002 (what the request calls it)
    ) -> PlannedInspection:
        """Tells what an inspection would bring and cost; compiles its program only if `compile` says so.

        Raises:
            NotFoundError, NotCapturableError, InvalidRequestError: the question does not fit the network.
            LimitExceededError: there are too many rows, or too much is being compiled.
        """
        inspection = self.engine.inspect(captures, outputs, rows=rows, execution=execution)
        refusal = _refusal(inspection, max_bytes)
        if compile and not refusal:
            await asyncio.wrap_future(self.engine.program(inspection.plan))
        return PlannedInspection(
            inspection=inspection,
            cost=await asyncio.to_thread(self.engine.cost, inspection),
            program=self.engine.held(inspection.plan),
            refusal=refusal,
        )

    def _run(
        self, program: Program, inspection: Inspection, inputs: Mapping[str, np.ndarray], clock: StageClock
    ) -> Iterator[Results]:
        """Runs a program where it is iterated: on the device's threads, stage after stage."""
        clock.lap("queue")
        padded = pad_inputs([inputs], self.engine.signature, program.plan.bucket)
        clock.lap("pad")
        laps = iter(("compute",))
        allowance = SPARE_BYTES + program.peak_bytes if program.plan.staged else None

        def computed(results: Results) -> Results:
            wait(results)
            for stage in laps:  # of the first results; the rest is a part of sending
                clock.lap(stage)
            if allowance is not None:
                _spare.bound(allowance)
            return results

        yield from map(computed, self.engine.run(program, padded, inspection))


def _refusal(inspection: Inspection, max_bytes: int) -> str:
    """Returns why an inspection is too large; empty if it is not."""
    if inspection.byte_size <= max_bytes:
        return ""
    return (
        f"this inspection would send {inspection.byte_size:,} bytes, and the limit is {max_bytes:,}: "
        "choose fewer sites, slice them, reduce them to statistics, or send fewer rows"
    )


def predict_batch(engine: Engine, jobs: Sequence[Job[Inputs, Outputs]]) -> list[Outputs]:
    """Computes the outputs of jobs that go together, each with its own rows."""
    bucket = engine.bucket_for(sum(job.rows for job in jobs))
    lap(jobs, "queue")
    padded = pad_inputs([job.asked for job in jobs], engine.signature, bucket)
    lap(jobs, "pad")
    outputs = engine.predict(bucket, padded)
    wait(outputs)
    lap(jobs, "compute")
    whole = [np.asarray(output) for output in outputs]
    ends = itertools.accumulate(job.rows for job in jobs)
    answers = [
        {name: array[end - job.rows : end] for name, array in zip(engine.signature.output_names, whole, strict=True)}
        for job, end in zip(jobs, ends, strict=True)
    ]
    lap(jobs, "device_to_host")
    return answers
