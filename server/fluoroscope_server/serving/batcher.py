"""The batcher: work that would wait for the device goes to it together."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from fluoroscope_server.serving.round_robin import RoundRobin
from fluoroscope_server.serving.turns import Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from fluoroscope_server.serving.device_queue import DeviceQueue
    from fluoroscope_server.serving.stages import StageClock

Q = TypeVar("Q")
"""What is asked."""

A = TypeVar("A")
"""What a job is answered with."""

AHEAD_SECONDS = 0.04
"""How many seconds of full batches of one model may be under way at once. While one computes the next are prepared,
which takes about a millisecond. More would wait where no limit sees them; a batch that takes longer goes by itself."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job(Generic[Q, A]):
    """One thing that was asked for; it is checked."""

    asked: Q
    """What was asked; for a prediction every input by name, with `rows` rows."""

    rows: int
    """How many rows it has, no more than the largest bucket."""

    clock: StageClock
    """Measures its stages."""

    client: Hashable
    """Who asked: clients take turns."""

    future: asyncio.Future[A]
    """Gets its answer; done without one if its caller gave up."""


class Batcher(Generic[Q, A]):
    """Joins what is asked of one model, for the callers of one event loop.

    Nobody waits for company, unless `max_delay` says so: a job that finds the device free starts at once, with those
    that came in the same turn of the loop. What comes while a batch is under way goes together when it has ended,
    clients in turn, as much as fits; only a batch that is full already starts beside it. If a joined batch fails, each
    of its jobs is run alone, so that only those that are the cause fail.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Job[Q, A]]], Sequence[A]],
        device: DeviceQueue,
        *,
        max_rows: int,
        expected_seconds: Callable[[int], float],
        name: str = "",
        turn: Turn = Turn.PREDICTION,
        max_delay: float = 0.0,
        room: Callable[[int], int] | None = None,
    ) -> None:
        """Begins with nothing that waits.

        Args:
            run: computes a batch, an answer for each job; called where the device queue runs its work.
            device: where batches run.
            max_rows: how many rows a joined batch may have; a job that has more goes alone.
            expected_seconds: how long so many rows will take.
            name: the model, which takes turns with others on the device.
            turn: what the device takes its batches for.
            max_delay: how many seconds a job that finds the device free waits for company.
            room: how many rows may go together now, when so many wait; None means `max_rows`, always.
        """
        self._run = run
        self._device = device
        self._max_rows = max_rows
        self._expected_seconds = expected_seconds
        self._name = name
        self._turn = turn
        self._max_delay = max_delay
        self._room = room
        self._waiting: RoundRobin[Job[Q, A]] = RoundRobin()
        self._waiting_rows = 0
        self._under_way = 0
        self._woken = False
        self._delay: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing waits or is under way."""
        return not self._waiting and not self._under_way

    @property
    def waiting(self) -> int:
        """How many jobs wait; safe on any thread."""
        return len(self._waiting)

    def start(self) -> None:
        """Starts what can start now, and need not wait for the next turn of the loop."""
        self._wake()

    def submit(
        self,
        asked: Q,
        rows: int,
        clock: StageClock,
        *,
        client: Hashable = "",
        alone: bool = False,
    ) -> asyncio.Future[A]:
        """Adds a job; the future has its answer, or the exception it raised. Cancel it to take it back.

        Args:
            asked: what is asked, checked.
            rows: how many rows it has.
            clock: measures the stages.
            client: who asks.
            alone: nobody else is calling, so that work that is quick may run right here.
        """
        loop = asyncio.get_running_loop()
        job: Job[Q, A] = Job(asked=asked, rows=rows, clock=clock, client=client, future=loop.create_future())
        if alone and self.idle and not self._max_delay:
            self._start([job], expected_seconds=self._expected_seconds(rows))
            return job.future
        if self._max_delay and not self._waiting and self._delay is None:
            self._delay = loop.call_later(self._max_delay, self._delayed)
        self._waiting.push(client, job)
        self._waiting_rows += rows
        job.future.add_done_callback(lambda future: self._withdraw(job) if future.cancelled() else None)
        if not self._woken:  # others may come in this turn of the loop
            self._woken = True
            loop.call_soon(self._wake)
        return job.future

    def _delayed(self) -> None:
        self._delay = None
        self._wake()

    def _withdraw(self, job: Job[Q, A]) -> None:
        """Makes room for others at once when a caller gives up that waits."""
        if self._waiting.remove(job.client, job):
            self._waiting_rows -= job.rows

    def _wake(self) -> None:
        self._woken = False
        while self._waiting and self._may_start():
            if jobs := self._take():
                self._start(jobs)

    def _may_start(self) -> bool:
        """Whether the device is free and nobody waits for company, or a batch may start beside those under way."""
        if self._waiting_rows < self._max_rows:
            return not self._under_way and self._delay is None
        seconds = self._expected_seconds(self._max_rows or self._waiting.peek().rows)
        return self._under_way < min(self._device.workers, max(1, AHEAD_SECONDS // max(seconds, 1e-6)))

    def _take(self) -> list[Job[Q, A]]:
        """Takes those that go next: none if all who waited have given up."""
        if self._delay is not None:
            self._delay.cancel()
            self._delay = None
        room = self._max_rows
        if self._room is not None and len(self._waiting) > 1:
            room = self._room(self._waiting_rows)
        jobs: list[Job[Q, A]] = []
        rows = 0
        while self._waiting and (not jobs or rows + self._waiting.peek().rows <= room):
            job = self._waiting.pop()
            self._waiting_rows -= job.rows
            if not job.future.done():
                jobs.append(job)
                rows += job.rows
        return jobs

    def _start(self, jobs: list[Job[Q, A]], *, expected_seconds: float = math.inf) -> None:
        self._under_way += 1
        batch = self._device.submit(
            lambda: self._compute(jobs),
            turn=self._turn,
            key=(self._name, jobs[0].client if self._turn is Turn.INSPECTION else ""),
            expected_seconds=expected_seconds,
        )
        if batch.done():
            self._end(jobs, batch)
        else:
            batch.add_done_callback(lambda _: self._go_on(jobs, batch))

    def _go_on(self, jobs: list[Job[Q, A]], batch: asyncio.Future[dict[Job[Q, A], A]]) -> None:
        self._end(jobs, batch)
        self._wake()

    def _compute(self, jobs: list[Job[Q, A]]) -> dict[Job[Q, A], A]:
        """Runs those jobs of a batch whose callers are still there."""
        wanted = [job for job in jobs if not job.future.done()]
        return dict(zip(wanted, self._run(wanted), strict=True)) if wanted else {}

    def _end(self, jobs: list[Job[Q, A]], batch: asyncio.Future[dict[Job[Q, A], A]]) -> None:
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


def lap(jobs: Sequence[Job[Any, Any]], stage: str) -> None:
    """Ends a stage of all jobs of a batch."""
    for job in jobs:
        job.clock.lap(stage)
