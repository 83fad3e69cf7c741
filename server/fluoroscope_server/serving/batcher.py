"""The batcher: work that would wait for the device goes to it together."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from fluoroscope_server.serving.device_queue import NOT_FOR_A_CALLER, fit_for_a_caller, outcome
from fluoroscope_server.serving.round_robin import RoundRobin
from fluoroscope_server.serving.stages import StageClock
from fluoroscope_server.serving.turns import Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from fluoroscope_server.serving.device_queue import DeviceQueue

Q = TypeVar("Q")
"""What is asked."""

A = TypeVar("A")
"""What a job is answered with."""

AHEAD_SECONDS = 0.04
"""How many seconds of full batches of one model may be under way at once. While one computes the next are prepared,
which takes about a millisecond. More would wait where no limit sees them; a batch that takes longer goes by itself."""

QUICK_SECONDS = 0.003
"""A batch that takes no longer runs on the loop, if nothing else is under way: it holds up others for less than anybody
would notice, and two changes of thread would take a good part of that."""

SMALL_SECONDS = 0.0005
"""A job that takes no longer alone costs less to compute than to bring here and back. It gains more by going with
others than it loses by looking out for them, and another thread for a crowd of such saves less than it costs.
"""

PATIENCE = 20
"""For so many turns of the loop that bring nothing new one looks out: gRPC hands over one by one, from a thread of its
own, what came at once."""


@dataclass(slots=True, kw_only=True, eq=False)
class Job(Generic[Q]):
    """One thing that was asked for; it is checked."""

    asked: Q
    """What was asked; for a prediction every input by name, with `rows` rows."""

    rows: int
    """How many rows it has, no more than the largest bucket."""

    clock: StageClock
    """Measures its stages."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Waiting(Generic[Q, A]):
    """A job that waits, or is under way."""

    job: Job[Q]

    client: Hashable
    """Who asked: clients take turns."""

    future: asyncio.Future[A]
    """Gets its answer; done without one if its caller gave up."""


class Batcher(Generic[Q, A]):
    """Joins what is asked of one model, for the callers of one event loop.

    Nobody waits for company, unless `max_delay` says so: a job that finds the device free starts as soon as the loop
    has nothing else to do than to bring more. What comes while a batch is under way goes together when it has ended,
    clients in turn, as much as fits; only a batch that is full already starts beside it. If a joined batch fails, each
    of its jobs is run alone, so that only those that are the cause fail.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Job[Q]]], Sequence[A]],
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
            run: computes a batch, an answer for each job; called where the device queue runs its work, or on the loop.
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
        self._waiting: RoundRobin[_Waiting[Q, A]] = RoundRobin()
        self._waiting_rows = 0
        self._under_way = 0
        self._looking_out: asyncio.Handle | None = None
        self._seen = 0
        self._patience = 0
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

    def at_hand(self, rows: int) -> bool:
        """Whether so many rows would be computed right here, by `answer`, sooner than they could be handed over."""
        return not (self._under_way or self._waiting_rows or self._max_delay) and self._is_quick(rows)

    def answer(self, asked: Q, rows: int, clock: StageClock) -> A:
        """Answers a job right here, or raises what it raises; it is `at_hand`, and nobody else is calling."""
        try:
            return self._run([Job(asked=asked, rows=rows, clock=clock)])[0]
        except NOT_FOR_A_CALLER as error:
            raise fit_for_a_caller(error) from None

    def submit(self, asked: Q, rows: int, clock: StageClock, *, client: Hashable = "") -> asyncio.Future[A]:
        """Adds a job; the future has its answer, or the exception it raised. Cancel it to take it back.

        Args:
            asked: what is asked, checked.
            rows: how many rows it has.
            clock: measures the stages.
            client: who asks.
        """
        loop = asyncio.get_running_loop()
        job = Job(asked=asked, rows=rows, clock=clock)
        mine: _Waiting[Q, A] = _Waiting(job=job, client=client, future=loop.create_future())
        if self._max_delay and not self._waiting and self._delay is None:
            self._delay = loop.call_later(self._max_delay, self._delayed)
        self._waiting.push(client, mine)
        self._waiting_rows += rows
        mine.future.add_done_callback(lambda future: self._withdraw(mine) if future.cancelled() else None)
        if self._looking_out is None:
            self._seen = 0
            self._looking_out = loop.call_soon(self._look_out)
        return mine.future

    def _delayed(self) -> None:
        self._delay = None
        self._wake()

    def _withdraw(self, mine: _Waiting[Q, A]) -> None:
        """Makes room for others at once when a caller gives up that waits."""
        if self._waiting.remove(mine.client, mine):
            self._waiting_rows -= mine.job.rows

    def _look_out(self) -> None:
        """Starts what waits, unless others are coming in and it is worth it to go with them."""
        waiting = len(self._waiting)
        if waiting > self._seen:
            self._seen, self._patience = waiting, PATIENCE
        self._patience -= 1
        if self._patience and self._is_worth_it():
            self._looking_out = asyncio.get_running_loop().call_soon(self._look_out)
        else:
            self._wake()

    def _is_worth_it(self) -> bool:
        """Whether a batch could start now, has room, and would be done soon."""
        return (
            not self._under_way
            and 0 < self._waiting_rows < self._max_rows
            and self._expected_seconds(self._waiting.peek().job.rows) <= SMALL_SECONDS
        )

    def _is_quick(self, rows: int) -> bool:
        return self._device.idle and self._expected_seconds(rows) <= QUICK_SECONDS

    def _is_small(self, batch: list[_Waiting[Q, A]]) -> bool:
        rows = [each.job.rows for each in batch]
        return self._is_quick(sum(rows)) and self._expected_seconds(max(rows)) <= SMALL_SECONDS

    def _wake(self) -> None:
        if self._looking_out is not None:
            self._looking_out.cancel()
            self._looking_out = None
        while self._waiting and self._may_start():
            batch = self._take()
            if batch and self._start(batch) and self._waiting:
                self._look_out_once()  # answers go out, and others come in, before the loop is held up again
                return

    def _look_out_once(self) -> None:
        self._seen, self._patience = len(self._waiting), 1
        self._looking_out = asyncio.get_running_loop().call_soon(self._look_out)

    def _may_start(self) -> bool:
        """Whether the device is free and nobody waits for company, or a batch may start beside those under way."""
        if self._waiting_rows < self._max_rows:
            return not self._under_way and self._delay is None
        seconds = self._expected_seconds(self._max_rows or self._waiting.peek().job.rows)
        return self._under_way < min(self._device.workers, max(1, AHEAD_SECONDS // max(seconds, 1e-6)))

    def _take(self) -> list[_Waiting[Q, A]]:
        """Takes those that go next: none if all who waited have given up."""
        if self._delay is not None:
            self._delay.cancel()
            self._delay = None
        room = self._max_rows
        if self._room is not None and len(self._waiting) > 1:
            room = self._room(self._waiting_rows)
        taken: list[_Waiting[Q, A]] = []
        rows = 0
        while self._waiting and (not taken or rows + self._waiting.peek().job.rows <= room):
            each = self._waiting.pop()
            self._waiting_rows -= each.job.rows
            if not each.future.done():
                taken.append(each)
                rows += each.job.rows
        return taken

    def _start(self, batch: list[_Waiting[Q, A]]) -> bool:
        """Starts a batch; returns whether it has ended already."""
        if self._is_small(batch):
            self._end(batch, *outcome(lambda: self._compute(batch)))
            return True
        self._under_way += 1
        computed = self._device.submit(
            lambda: self._compute(batch),
            turn=self._turn,
            key=(self._name, batch[0].client if self._turn is Turn.INSPECTION else ""),
        )
        computed.add_done_callback(lambda _: self._go_on(batch, computed))
        return False

    def _go_on(self, batch: list[_Waiting[Q, A]], computed: asyncio.Future[dict[_Waiting[Q, A], A]]) -> None:
        self._under_way -= 1
        self._end(batch, *outcome(computed.result))
        self._wake()

    def _compute(self, batch: list[_Waiting[Q, A]]) -> dict[_Waiting[Q, A], A]:
        """Runs those jobs of a batch whose callers are still there."""
        wanted = [each for each in batch if not each.future.done()]
        return dict(zip(wanted, self._run([each.job for each in wanted]), strict=True)) if wanted else {}

    def _end(
        self, batch: list[_Waiting[Q, A]], answers: dict[_Waiting[Q, A], A] | None, error: BaseException | None
    ) -> None:
        if error is not None and len(batch) > 1:
            for each in batch:
                self._start([each])
            return
        for each in batch:
            if each.future.done():
                continue
            if answers is None:
                each.future.set_exception(cast("BaseException", error))
            else:
                each.future.set_result(answers[each])


def begin(jobs: Sequence[Job[Any]]) -> StageClock:
    """Ends the time that jobs waited; returns a clock for what is done for all of them."""
    for job in jobs:
        job.clock.lap("queue")
    return jobs[0].clock if len(jobs) == 1 else StageClock()


def end(jobs: Sequence[Job[Any]], clock: StageClock) -> None:
    """Says to all jobs of a batch how long its stages took."""
    for job in jobs:
        if job.clock is not clock:
            job.clock.join(clock)
