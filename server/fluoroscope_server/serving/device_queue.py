"""The device queue: work for the accelerator, predictions first, and everybody in turn."""

from __future__ import annotations

import asyncio
import contextlib
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

    So the loop stays free for the transport while the device computes.

    Work whose caller gave up while it waited is never begun; an error in one piece of work is its caller's alone.
    """

    def __init__(self, name: str, workers: int = 1) -> None:
        """Starts the threads. Inspections never have more than a quarter of them, but always one."""
        self.workers = workers
        self._lock = threading.Lock()  # of the turns, and of what was put off
        self._turns: Turns[_Work] = Turns(most_inspections=max(1, workers // 4))
        self._put_off = 0
        self._wakeups: queue.SimpleQueue[None] = queue.SimpleQueue()  # one for each piece of work that waits
        self._unsettled = 0
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}-{index}", daemon=True) for index in range(workers)
        ]
        for thread in self._threads:
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
            self._wakeups.put(None)
        return future

    def close(self) -> None:
        """Ends the threads when all that waits is done."""
        self._closed = True
        for _ in self._threads:
            self._wakeups.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while True:
            self._wakeups.get()
            with self._lock:
                taken = self._turns.pop()
                if taken is None:
                    if self._closed and not self._turns:
                        return
                    self._put_off += 1  # only inspections wait, and enough are under way
                    continue
            turn, work = taken
            given_up = work.future.cancelled()
            start = time.perf_counter()
            result, error = (None, None) if given_up else outcome(work.do)
            seconds = None if given_up else time.perf_counter() - start
            with self._lock:
                self._turns.end(turn, seconds)
                again, self._put_off = self._put_off, 0
            for _ in range(again):
                self._wakeups.put(None)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                work.future.get_loop().call_soon_threadsafe(self._settle, work.future, result, error)
            del result, error, taken, work  # results and inputs may be large: nothing may outlive its turn here

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
