"""The device queue: work for the accelerator, begun in the order in which it came."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from fluoroscope_server.errors import UnavailableError

T = TypeVar("T")

QUICK_SECONDS = 0.003
"""Work that takes no longer may run where it is: it holds up the loop for less than anybody would notice, and two
changes of thread would take a good part of that."""

_Work = tuple[asyncio.Future[Any], Callable[[], Any]]


class DeviceQueue:
    """Runs work on threads of its own, in the order in which it came, for the callers of one event loop.

    So the loop stays free for the transport while the device computes. Only work that takes no longer than
    changing threads does, and that would not have to wait, runs at once where it is submitted.

    Work whose caller gave up while it waited is never begun; an error in one piece of work is its caller's alone.
    """

    def __init__(self, name: str, workers: int = 1) -> None:
        """Starts the threads."""
        self._waiting: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self.workers = workers
        self._unsettled = 0
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}-{index}", daemon=True) for index in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, work: Callable[[], T], *, expected_seconds: float = float("inf")) -> asyncio.Future[T]:
        """Adds work; the future has its result, or the exception it raised. Cancel it to take the work back.

        Args:
            work: what to do.
            expected_seconds: how long it will take, if that is known.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if self._closed:
            _set(future, None, UnavailableError("the server is stopping", reason="STOPPING"))
        elif self._unsettled == 0 and expected_seconds <= QUICK_SECONDS:
            _set(future, *_outcome(work))
        else:
            self._unsettled += 1
            self._waiting.put((future, work))
        return future

    def close(self) -> None:
        """Ends the thread when all that waits is done."""
        self._closed = True
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while (item := self._waiting.get()) is not None:
            future, work = item
            result, error = (None, None) if future.cancelled() else _outcome(work)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                future.get_loop().call_soon_threadsafe(self._settle, future, result, error)
            del result, error, item, future, work  # results and inputs may be large: nothing may outlive its turn here

    def _settle(self, future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        self._unsettled -= 1
        if not future.cancelled():
            _set(future, result, error)


def _outcome(work: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    try:
        return work(), None
    except (StopIteration, SystemExit) as error:  # a future cannot carry the one; the other would end the whole loop
        return None, RuntimeError(f"work for the device raised {type(error).__name__}: {error}")
    except BaseException as error:  # noqa: BLE001 (goes to whoever waits for it; the thread must live)
        return None, error


def _set(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
