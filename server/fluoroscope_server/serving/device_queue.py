"""The device queue: work for the accelerator, predictions first, and everybody in turn."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import queue
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from fluoroscope_server.errors import UnavailableError
from fluoroscope_server.serving.turns import Turn, Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Work:
    future: asyncio.Future[Any]
    do: Callable[[], Any]


class DeviceQueue:
    """Runs work on threads of its own, as `Turns` orders it, for the callers of one event loop.

    So the loop stays free for the transport while the device computes. Inspections have threads to themselves, so that
    the large buffers of all stages are made on few: glibc keeps some of what is free for the thread that freed it.

    Work whose caller gave up while it waited is never begun; an error in one piece of work is its caller's alone.
    """

    def __init__(self, name: str, workers: int = 1) -> None:
        """Starts the threads.

        Args:
            name: what the names of the threads begin with.
            workers: how much may be under way at once. No more than a quarter of it are inspections, but always one.
        """
        self.workers = workers
        most_inspections = max(1, workers // 4)
        self._lock = threading.Lock()  # of the turns, and of how much is under way
        self._turns: Turns[_Work] = Turns(most_inspections=most_inspections)
        self._under_way = 0
        self._begun: dict[Turn, queue.SimpleQueue[_Work | None]] = {turn: queue.SimpleQueue() for turn in Turn}
        self._unsettled = 0
        self._closed = False
        self._threads = {
            turn: [
                threading.Thread(target=self._run, args=(turn,), name=f"{name}-{turn.value}-{index}", daemon=True)
                for index in range(count)
            ]
            for turn, count in ((Turn.PREDICTION, workers), (Turn.INSPECTION, most_inspections))
        }
        for thread in itertools.chain.from_iterable(self._threads.values()):
            thread.start()

    @property
    def idle(self) -> bool:
        """Whether nothing waits or is under way, and work may come."""
        return not self._unsettled and not self._closed

    def submit(self, work: Callable[[], T], *, turn: Turn = Turn.PREDICTION, key: Hashable = "") -> asyncio.Future[T]:
        """Adds work; the future has its result, or the exception it raised. Cancel it to take the work back.

        Args:
            work: what to do.
            turn: what it is a part of.
            key: whose it is, the model and the client: keys take turns.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if self._closed:
            _set(future, None, UnavailableError("the server is stopping", reason="STOPPING"))
        else:
            self._unsettled += 1
            with self._lock:
                self._turns.push(turn, key, _Work(future=future, do=work))
                self._begin()
        return future

    def close(self) -> None:
        """Ends the threads when all that waits is done."""
        with self._lock:
            self._closed = True
            self._begin()
        for thread in itertools.chain.from_iterable(self._threads.values()):
            thread.join()

    def _begin(self) -> None:
        """Hands as much as may be under way to the threads; lets them go when all is done. For who has the lock."""
        while self._under_way < self.workers and (taken := self._turns.pop()) is not None:
            turn, work = taken
            self._under_way += 1
            self._begun[turn].put(work)
        if self._closed and not self._under_way:
            for turn, threads in self._threads.items():
                for _ in threads:
                    self._begun[turn].put(None)

    def _run(self, turn: Turn) -> None:
        while (work := self._begun[turn].get()) is not None:
            given_up = work.future.cancelled()
            start = time.perf_counter()
            result, error = (None, None) if given_up else outcome(work.do)
            seconds = None if given_up else time.perf_counter() - start
            with self._lock:
                self._turns.end(turn, seconds)
                self._under_way -= 1
                self._begin()
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                work.future.get_loop().call_soon_threadsafe(self._settle, work.future, result, error)
            del result, error, work  # results and inputs may be large: nothing may outlive its turn here

    def _settle(self, future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        self._unsettled -= 1
        if not future.cancelled():
            _set(future, result, error)


NOT_FOR_A_CALLER = (StopIteration, SystemExit)
"""What no caller may get: a future cannot carry the one, and the other would end the whole loop."""


def fit_for_a_caller(error: BaseException) -> RuntimeError:
    """Returns what a caller gets in place of an exception that none may get."""
    return RuntimeError(f"work for the device raised {type(error).__name__}: {error}")


def outcome(work: Callable[[], T]) -> tuple[T, None] | tuple[None, BaseException]:
    """Returns what a piece of work gives, or the exception that it raises, whatever it is."""
    try:
        return work(), None
    except NOT_FOR_A_CALLER as error:
        return None, fit_for_a_caller(error)
    except BaseException as error:  # noqa: BLE001 (goes to whoever waits for it; the thread must live)
        return None, error


def _set(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
