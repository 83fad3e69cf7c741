"""A servable: one version of a model that can answer."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fluoroscope_server.engine import check_outputs, read_rows, wait
from fluoroscope_server.errors import LimitExceededError
from fluoroscope_server.serving.answer import Answer
from fluoroscope_server.serving.inputs import check_inputs, pad_inputs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from fluoroscope_server.engine import Capture, Engine, Inspection, Program, Results
    from fluoroscope_server.serving.device_queue import DeviceQueue
    from fluoroscope_server.serving.stages import StageClock

_reading = ThreadPoolExecutor(max_workers=2, thread_name_prefix="read")


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
    """The thread that may use the device."""

    load_seconds: float
    """How long it took to load, compile and warm up."""

    async def predict(
        self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str], clock: StageClock
    ) -> dict[str, np.ndarray]:
        """Returns the asked-for outputs, all if none is named, with as many rows as the inputs have.

        Raises:
            InvalidRequestError: the inputs or outputs do not fit the signature.
            LimitExceededError: there are more rows than the largest bucket has.
        """
        signature = self.engine.signature
        rows = check_inputs(inputs, signature)
        wanted = check_outputs(outputs, signature) or signature.output_names
        program, inspection = self.engine.prediction(self.engine.bucket_for(rows))

        def work() -> dict[str, np.ndarray]:
            results = self._compute(program, inspection, inputs, clock)
            named = zip(signature.output_names, results, strict=True)
            answer = {name: read_rows(arrays, rows) for name, arrays in named if name in wanted}
            clock.lap("device_to_host")
            return answer

        clock.lap("decode")
        return await self.device.submit(work, expected_seconds=self.engine.seconds[program.plan.bucket])

    async def inspect(
        self,
        inputs: Mapping[str, np.ndarray],
        captures: Sequence[Capture],
        outputs: Sequence[str],
        *,
        max_bytes: int,
        clock: StageClock,
    ) -> Answer:
        """Resolves a question, waits for its program to be compiled if it is not held, and returns the answer.

        Nothing has run yet then; `Answer.results` runs it.

        Raises:
            NotFoundError, NotCapturableError, InvalidRequestError: the question does not fit the network.
            LimitExceededError: the answer would be too large, or there are too many rows.
        """
        inspection = self.engine.inspect(captures, outputs, rows=check_inputs(inputs, self.engine.signature))
        if inspection.byte_size > max_bytes:
            raise LimitExceededError(
                f"this inspection would send {inspection.byte_size:,} bytes, and the limit is {max_bytes:,}: "
                "choose fewer sites, slice them, reduce them to statistics, or send fewer rows",
                field="max_bytes",
                reason="INSPECTION_TOO_LARGE",
            )
        clock.lap("decode")
        future = self.engine.program(inspection.plan)
        held = future.done()
        # Shielded: others may wait for the same program, and whoever asks next will want it.
        program = await asyncio.shield(asyncio.wrap_future(future))
        clock.lap("compile")
        return Answer(
            inspection=inspection,
            program=program,
            held=held,
            compute=lambda: self.device.submit(lambda: self._compute(program, inspection, inputs, clock)),
            reading=_reading,
        )

    def _compute(
        self, program: Program, inspection: Inspection, inputs: Mapping[str, np.ndarray], clock: StageClock
    ) -> Results:
        clock.lap("queue")
        padded = pad_inputs(inputs, self.engine.signature, program.plan.bucket)
        clock.lap("pad")
        results = self.engine.run(program, padded, inspection)
        wait(results)
        clock.lap("compute")
        return results
