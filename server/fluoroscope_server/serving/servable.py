"""A servable: one version of a model that can answer."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fluoroscope_server.allocator import Spare
from fluoroscope_server.engine import Execution, check_outputs, common, wait, wait_for
from fluoroscope_server.keys import Scope, caller
from fluoroscope_server.serving.answer import Answer
from fluoroscope_server.serving.batcher import begin, end
from fluoroscope_server.serving.inputs import check_inputs, pad_inputs
from fluoroscope_server.serving.joined_inspections import AskedInspection
from fluoroscope_server.serving.limits import DEFAULT_LIMITS
from fluoroscope_server.serving.parts import check_rows, predict_in_parts
from fluoroscope_server.serving.planned_inspection import PlannedInspection
from fluoroscope_server.serving.second_inputs import check_second_inputs, without_second_inputs

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping, Sequence

    from fluoroscope_server.engine import Capture, Edit, Engine, Gradient, Inspection, Program, Results
    from fluoroscope_server.serving.batcher import Batcher, Job
    from fluoroscope_server.serving.device_queue import DeviceQueue
    from fluoroscope_server.serving.joined_inspections import JoinedInspections
    from fluoroscope_server.serving.limits import Limits
    from fluoroscope_server.serving.parts import Inputs, Outputs
    from fluoroscope_server.serving.stages import StageClock
    from fluoroscope_server.serving.tally import Tally

_reading = ThreadPoolExecutor(max_workers=2, thread_name_prefix="read")
_spare = Spare()

SPARE_BYTES = 64 << 20
"""How much memory may lie free while an inspection runs in stages, beside what they take."""

STAGES_AT_ONCE = 3
"""Of so many stages there may be something in memory: of one that runs, of the one before, whose values it takes, and
of the one before that, whose results are being sent."""


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

    tally: Tally
    """Counts its calls."""
    digest: str = ""
    """The SHA-256 of all that the checkpoint holds, in hexadecimal, as `seal` says it."""

    sealed: bool = False
    """Whether the checkpoint was sealed, and is what was sealed."""

    def check_queue(self, limits: Limits) -> None:
        """Raises LimitExceededError if too many predictions wait. Ask before one is decoded: then a no is cheap."""
        if self.batcher.waiting >= limits.max_queue:
            self.batcher.start()  # those of this very turn of the loop wait for nothing but each other
            limits.check_queue(self.batcher.waiting, model=self.name)

    async def predict(
        self,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],
        clock: StageClock,
        *,
        client: Hashable = "",
        alone: bool = False,
        limits: Limits = DEFAULT_LIMITS,
    ) -> dict[str, np.ndarray]:
        """Returns the asked-for outputs, all if none is named, with as many rows as the inputs have.

        If the caller knows that nobody else is calling, it says so with `alone`: what is quick is then done at once.
        Clients, told apart by `client`, take turns. The tally counts an answer; a failure the caller counts, for whom
        a call begins earlier.

        Raises:
            InvalidRequestError: the inputs or outputs do not fit the signature.
            LimitExceededError: there are too many rows, their outputs would be too large, or too many predictions wait
                already.
        """
        signature = self.engine.signature
        rows = check_inputs(inputs, signature)
        limits.check_rows(rows)
        size = check_rows(self.engine, rows)
        wanted = check_outputs(outputs, signature) if outputs else ()
        of_each = signature.output_row_bytes
        limits.check_answer(rows, row_bytes=sum([of_each[name] for name in wanted or of_each]))
        clock.lap("decode")
        if rows > size:
            answer = await predict_in_parts(self.batcher, inputs, rows, clock, size=size, client=client)
        elif alone and self.batcher.at_hand(rows):
            answer = self.batcher.answer(inputs, rows, clock)
        else:
            answer = await self.batcher.submit(inputs, rows, clock, client=client)
        self.tally.answered(rows, clock)
        return {name: answer[name] for name in wanted} if wanted else answer

    async def inspect(
        self,
        inputs: Mapping[str, np.ndarray],
        captures: Sequence[Capture],
        outputs: Sequence[str],
        *,
        max_bytes: int = 0,
        one_message: bool = False,
        clock: StageClock,
        execution: Execution = Execution.AUTO,
        client: Hashable = "",
        edits: Sequence[Edit] = (),
        gradient: Gradient | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> Answer:
        """Resolves a question, waits for its program to be compiled if it is not held, and returns the answer.

        Nothing has run yet then; `Answer.results` runs it. Clients, told apart as in `predict`, take turns. The request
        may allow fewer bytes than `limits` do (`max_bytes`), and so does an answer that is to be one message.

        Raises:
            PermissionDeniedError: the caller may not look inside.
            NotFoundError, NotCapturableError, InvalidRequestError: the question does not fit the network.
            LimitExceededError: the answer would be too large, there are too many rows, or too much is being compiled.
        """
        caller().require(Scope.INSPECT)
        rows = check_inputs(inputs, self.engine.signature)
        limits.check_rows(rows)
        check_second_inputs(edits, self.engine.signature, rows=rows)
        inspection = self.engine.inspect(
            captures, outputs, rows=rows, execution=execution, edits=edits, gradient=gradient
        )
        refusal = limits.refusal_of(inspection, max_bytes=max_bytes, one_message=one_message)
        if refusal is not None:
            raise refusal
        clock.lap("decode")
        program, held = await self._program(inspection, clock)
        asked = AskedInspection(inspection=inspection, program=program, inputs=inputs)
        shared = common(inspection) if self.engine.keeps_rows_apart(inspection) else None
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

    async def inspect_parameters(
        self,
        captures: Sequence[Capture],
        *,
        max_bytes: int = 0,
        clock: StageClock,
        client: Hashable = "",
        limits: Limits = DEFAULT_LIMITS,
    ) -> Answer:
        """Resolves a question about the variables, as `inspect` does; they are read one after the other.

        Raises:
            PermissionDeniedError: the caller may not look inside.
            NotFoundError, InvalidRequestError: the question does not fit the variables.
            LimitExceededError: the answer would be too large, or too much is being compiled.
        """
        caller().require(Scope.INSPECT)
        inspection = self.engine.inspect_parameters(captures)
        refusal = limits.refusal_of(inspection, max_bytes=max_bytes)
        if refusal is not None:
            raise refusal
        clock.lap("decode")
        program, held = await self._program(inspection, clock)
        return Answer(
            inspection=inspection,
            program=program,
            held=held,
            run=self._read(program, inspection, clock),
            device=self.device,
            reading=_reading,
            key=(self.name, client),
        )

    async def _program(self, inspection: Inspection, clock: StageClock) -> tuple[Program, bool]:
        """Returns the program of a question, and whether it was held already."""
        future = self.engine.program(inspection.plan)
        program = await asyncio.wrap_future(future)  # who gives up cancels it, and only what nobody else waits for
        clock.lap("compile")
        return program, future.held

    async def plan(
        self,
        rows: int,
        captures: Sequence[Capture],
        outputs: Sequence[str],
        *,
        max_bytes: int = 0,
        execution: Execution = Execution.AUTO,
        edits: Sequence[Edit] = (),
        gradient: Gradient | None = None,
        compile: bool = False,  # noqa: A002 (what the request calls it)
        limits: Limits = DEFAULT_LIMITS,
    ) -> PlannedInspection:
        """Tells what an inspection would bring and cost; compiles its program only if `compile` says so.

        Raises:
            PermissionDeniedError: the caller may not look inside.
            NotFoundError, NotCapturableError, InvalidRequestError: the question does not fit the network.
            LimitExceededError: there are too many rows, or too much is being compiled.
        """
        caller().require(Scope.INSPECT)
        edits = without_second_inputs(edits)
        inspection = self.engine.inspect(
            captures, outputs, rows=rows, execution=execution, edits=edits, gradient=gradient
        )
        refusal = limits.refusal_of(inspection, max_bytes=max_bytes)
        if compile and refusal is None:
            await asyncio.wrap_future(self.engine.program(inspection.plan))
        return PlannedInspection(
            inspection=inspection,
            cost=await asyncio.to_thread(self.engine.cost, inspection),
            program=self.engine.held(inspection.plan),
            refusal="" if refusal is None else refusal.message,
        )

    def _run(
        self, program: Program, inspection: Inspection, inputs: Mapping[str, np.ndarray], clock: StageClock
    ) -> Iterator[Results]:
        """Runs a program where it is iterated: on the device's threads, stage after stage."""
        self.tally.executed()
        clock.lap("queue")
        padded = pad_inputs([inputs], self.engine.signature, program.plan.bucket)
        clock.lap("pad")
        laps = iter(("compute",))
        allowance = SPARE_BYTES + STAGES_AT_ONCE * program.peak_bytes if program.plan.staged else None

        def computed(results: Results) -> Results:
            wait(results)
            for stage in laps:  # of the first results; the rest is a part of sending
                clock.lap(stage)
            if allowance is not None:
                _spare.bound(allowance)
            return results

        yield from map(computed, self.engine.run(program, padded, inspection))

    def _read(self, program: Program, inspection: Inspection, clock: StageClock) -> Iterator[Results]:
        """Reads and reduces variables where it is iterated: on the device's threads, one after the other."""
        clock.lap("queue")
        laps = iter(("compute",))

        def computed(results: Results) -> Results:
            wait(results)
            for stage in laps:
                clock.lap(stage)
            return results

        yield from map(computed, self.engine.run(program, (), inspection))


def predict_batch(engine: Engine, tally: Tally, jobs: Sequence[Job[Inputs]]) -> list[Outputs]:
    """Computes the outputs of jobs that go together, each with its own rows; counts the batch."""
    tally.executed()
    clock = begin(jobs)
    bucket = engine.bucket_for(sum([job.rows for job in jobs]))
    padded = pad_inputs([job.asked for job in jobs], engine.signature, bucket)
    clock.lap("pad")
    outputs = engine.predict(bucket, padded)
    wait_for(outputs)
    clock.lap("compute")
    whole = dict(zip(engine.signature.output_names, map(np.asarray, outputs), strict=True))
    answers = []
    last = 0
    for job in jobs:
        first, last = last, last + job.rows
        answers.append({name: array[first:last] for name, array in whole.items()})
    clock.lap("device_to_host")
    end(jobs, clock)
    return answers
