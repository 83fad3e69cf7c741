"""The queue of a network's compiler: one thread, and so many programs that are made or wait for that."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from fluoroscope_server.errors import LimitExceededError

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

Plan = TypeVar("Plan")
Program = TypeVar("Program")

COMPILE_SECONDS = 1.0
"""About how long it takes until the compiler has room again."""


class CompileQueue:
    """Makes one program after the other on a thread of its own, so that nothing that is being served waits for it.

    All that is asked of one network goes through one of these, whatever it is for. Safe under threads.
    """

    def __init__(self, most: int) -> None:
        """Takes how many programs may be made or wait for that at once."""
        self._most = most
        self._lock = threading.Lock()
        self._count = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="compile")

    def submit(self, make: Callable[[Plan], Program], plan: Plan) -> Future[Program]:
        """Returns the program of a plan, when it is made; cancel it to take back what has not begun.

        Raises:
            LimitExceededError: too many others are being made or wait for that.
        """
        with self._lock:
            if self._count >= self._most:
                raise LimitExceededError(
                    f"{self._count} programs of this model are being compiled or wait for that, and the limit is "
                    f"{self._most}: ask again later, or for what others have asked already (max-compiles)",
                    reason="COMPILES_BUSY",
                    retry_after=COMPILE_SECONDS,
                )
            self._count += 1
        work = self._thread.submit(make, plan)
        work.add_done_callback(self._settle)
        return work

    def close(self) -> None:
        """Begins nothing more; what is being made ends as it would have."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _settle(self, _: Future[Program]) -> None:
        with self._lock:
            self._count -= 1
