"""The programs that are held, and the making of those that are not."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from fluoroscope_server.engine.plan import Plan
    from fluoroscope_server.engine.program import Program


class ProgramCache:
    """Holds the programs used last, and compiles each plan once, however many ask for it at once.

    Compiling happens on a thread of its own, so that nothing that is being served waits for it. Safe under threads.
    """

    def __init__(
        self, compile_plan: Callable[[Plan], Program], *, capacity: int, on_compile: Callable[[float], None]
    ) -> None:
        """Takes the compiler, how many programs to hold, and what to tell how many seconds each took."""
        self._compile_plan = compile_plan
        self._capacity = capacity
        self._on_compile = on_compile
        self._lock = threading.RLock()  # a future that is done already calls back at once, within `request`
        self._held: OrderedDict[Plan, Future[Program]] = OrderedDict()
        self._pinned: dict[Plan, Program] = {}
        self._compiler = ThreadPoolExecutor(max_workers=1, thread_name_prefix="compile")

    def __len__(self) -> int:
        return len(self._held) + len(self._pinned)

    def pin(self, plan: Plan) -> Program:
        """Compiles a plan now and holds it for good: the programs that serve predictions."""
        program = self._compile(plan)
        self._pinned[plan] = program
        return program

    def request(self, plan: Plan) -> Future[Program]:
        """Returns the program of a plan, now if it is held, else when it is compiled."""
        with self._lock:
            future = self._held.get(plan)
            if future is not None:
                self._held.move_to_end(plan)
                return future
            future = self._held[plan] = self._compiler.submit(self._compile, plan)
            future.add_done_callback(lambda done: self._settle(plan, done))
            while len(self._held) > self._capacity:
                self._held.popitem(last=False)
            return future

    def close(self) -> None:
        """Compiles nothing more; who waits for a program not yet begun is told so."""
        self._compiler.shutdown(wait=False, cancel_futures=True)

    def _compile(self, plan: Plan) -> Program:
        program = self._compile_plan(plan)
        self._on_compile(program.compile_seconds)
        return program

    def _settle(self, plan: Plan, done: Future[Program]) -> None:
        if done.cancelled() or done.exception() is not None:
            with self._lock:
                if self._held.get(plan) is done:
                    del self._held[plan]
