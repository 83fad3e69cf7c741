"""The batcher: predictions that would wait for the device go to it together."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np

    from fluoroscope_server.serving.device_queue import DeviceQueue
    from fluoroscope_server.serving.stages import StageClock

    Outputs = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """One prediction that was asked for; its inputs are checked."""

    inputs: Mapping[str, np.ndarray]
    """Every input by name, with `rows` rows."""

    rows: int
    """How many rows it has, no more than the largest bucket."""

    clock: StageClock
    """Measures its stages."""

    future: asyncio.Future[Outputs]
    """Gets its outputs; done without them if its caller gave up."""


class Batcher:
    """Joins the predictions of one model, for the callers of one event loop.

    Nobody waits for company: a job that finds the device free starts at once, with those that came in the same turn
    of the loop. What comes while a batch is under way goes together when it has ended, in the order in which it came,
    as much as fits; only a batch that is full already starts beside it. If a joined batch fails, each of its jobs is
    run alone, so that only those that are the cause fail.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Job]], Sequence[Outputs]],
        device: DeviceQueue,
        *,
        max_rows: int,
        expected_seconds: Callable[[int], float],
    ) -> None:
        """Begins with nothing that waits.

        Args:
            run: computes a batch, an answer for each job; called where the device queue runs its work.
            device: where batches run.
            max_rows: how many rows a joined batch may have; a job that has more goes alone.
            expected_seconds: how long so many rows will take.
        """
        self._run = run
        self._device = device
        self._max_rows = max_rows
        self._expected_seconds = expected_seconds
        self._waiting: deque[Job] = deque()
        self._under_way = 0
        self._woken = False

    @property
    def waiting(self) -> int:
        """How many predictions wait, those that were taken back meanwhile included."""
        return len(self._waiting)

    def submit(
        self, inputs: Mapping[str, np.ndarray], rows: int, clock: StageClock, *, alone: bool = False
    ) -> asyncio.Future[Outputs]:
        """Adds a prediction; the future has its outputs, or the exception it raised. Cancel it to take it back.

        Args:
            inputs: every input by name, checked.
            rows: how many rows they have.
            clock: measures the stages.
            alone: nobody else is calling, so that work that is quick may run right here.
        """
        loop = asyncio.get_running_loop()
        job = Job(inputs=inputs, rows=rows, clock=clock, future=loop.create_future())
        if alone and not self._waiting and not self._under_way:
            self._start([job], expected_seconds=self._expected_seconds(rows))
            return job.future
        self._waiting.append(job)
        if not self._woken:  # others may come in this turn of the loop
            self._woken = True
            loop.call_soon(self._wake)
        return job.future

    def _wake(self) -> None:
        self._woken = False
        while self._waiting and (not self._under_way or self._fills_a_batch()):
            if jobs := self._take():
                self._start(jobs)

    def _fills_a_batch(self) -> bool:
        """Whether another batch may start beside those under way, and those who wait fill it."""
        if self._under_way >= self._device.workers:
            return False
        rows = 0
        for job in self._waiting:
            rows += job.rows
            if rows >= self._max_rows:
                return True
        return False

    def _take(self) -> list[Job]:
        """Takes those that go next: none if all who waited have given up."""
        jobs: list[Job] = []
        rows = 0
        while self._waiting and (not jobs or rows + self._waiting[0].rows <= self._max_rows):
            job = self._waiting.popleft()
            if not job.future.done():
                jobs.append(job)
                rows += job.rows
        return jobs

    def _start(self, jobs: list[Job], *, expected_seconds: float = math.inf) -> None:
        self._under_way += 1
        batch = self._device.submit(lambda: self._compute(jobs), expected_seconds=expected_seconds)
        if batch.done():
            self._end(jobs, batch)
        else:
            batch.add_done_callback(lambda _: self._go_on(jobs, batch))

    def _go_on(self, jobs: list[Job], batch: asyncio.Future[dict[Job, Outputs]]) -> None:
        self._end(jobs, batch)
        self._wake()

    def _compute(self, jobs: list[Job]) -> dict[Job, Outputs]:
        """Runs those jobs of a batch whose callers are still there."""
        wanted = [job for job in jobs if not job.future.done()]
        return dict(zip(wanted, self._run(wanted), strict=True)) if wanted else {}

    def _end(self, jobs: list[Job], batch: asyncio.Future[dict[Job, Outputs]]) -> None:
        self._under_way -= 1
        error = batch.exception()
        if error is not None and len(jobs) > 1:
            for job in jobs:
                self._start([job])
            return
        for job in jobs:
            if job.future.done():
                continue
            if error is not None:
                job.future.set_exception(error)
            else:
                job.future.set_result(batch.result()[job])
