"""The programs that are held, and the making of those that are not."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from fluoroscope_server.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fluoroscope_server.engine.compile_queue import CompileQueue


class Compiled(Protocol):
    """What a compiler gives."""

    @property
    def compile_seconds(self) -> float:
        """How long it took."""
        ...


Plan = TypeVar("Plan")
"""What says which program; hashable."""

Program = TypeVar("Program", bound=Compiled)


class Requested(Future[Program]):
    """A program that somebody has asked for; cancel it to take that back."""

    held = False
    """Whether it was there already. Who asks later whether it is done may find that the compiler was quick."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Compilation(Generic[Program]):
    """A program that is being made, or waits for that."""

    work: Future[Program]
    """The compiler's own; cancelled when nobody waits any more."""

    waiting: list[Requested[Program]]
    """One for each who asked."""


class ProgramCache(Generic[Plan, Program]):
    """Holds the programs used last, and compiles each plan once, however many ask for it at once.

    What is not held is compiled in a queue, so that nothing that is being served waits for it. Safe under threads.
    """

    def __init__(
        self,
        compile_plan: Callable[[Plan], Program],
        *,
        capacity: int,
        queue: CompileQueue,
        on_compile: Callable[[float], None],
    ) -> None:
        """Holds nothing yet.

        Args:
            compile_plan: the compiler.
            capacity: how many programs to hold, besides those that are pinned.
            queue: where what is not held is compiled; others may use it too, and its owner closes it.
            on_compile: told how many seconds each compilation took.
        """
        self._compile_plan = compile_plan
        self._capacity = capacity
        self._queue = queue
        self._on_compile = on_compile
        self._lock = threading.RLock()  # what is cancelled calls back at once, while the lock is held
        self._held: OrderedDict[Plan, Program] = OrderedDict()
        self._pinned: dict[Plan, Program] = {}
        self._compiling: dict[Plan, _Compilation[Program]] = {}
        self._closed = False

    def __len__(self) -> int:
        return len(self._held) + len(self._pinned)

    def pin(self, plan: Plan) -> Program:
        """Returns the program of a plan, held for good; compiles it now if it is not pinned yet."""
        program = self._pinned.get(plan)
        if program is None:
            program = self._pinned[plan] = self._compile(plan)
        return program

    def request(self, plan: Plan) -> Requested[Program]:
        """Returns the program of a plan, now if it is held, else when it is compiled.

        The future is the caller's own. Who cancels it gives up: a compilation that nobody waits for is not begun.

        Raises:
            LimitExceededError: it is not held, and too many others are being compiled or wait for that.
            UnavailableError: it is not held, and the cache is closed.
        """
        asked: Requested[Program] = Requested()
        with self._lock:
            program = self._find(plan)
            if program is not None:
                asked.held = True
                asked.set_result(program)
                return asked
            begun = self._compiling.get(plan)
            compilation = begun or self._begin(plan)
            compilation.waiting.append(asked)
        if begun is None:  # only now that somebody waits: it may be done already, and calls back at once then
            compilation.work.add_done_callback(lambda work: self._settle(plan, work))
        asked.add_done_callback(lambda done: self._give_up(plan, done))
        return asked

    def peek(self, plan: Plan) -> Program | None:
        """Returns the program of a plan if it is held; does not count as a use."""
        with self._lock:
            return self._held.get(plan) or self._pinned.get(plan)

    def close(self) -> None:
        """Compiles nothing more, and holds nothing; who waits for a program not yet begun is told so."""
        with self._lock:
            self._closed = True
            for compilation in list(self._compiling.values()):  # each that had not begun takes itself out
                compilation.work.cancel()
            self._held.clear()
            self._pinned.clear()

    def _find(self, plan: Plan) -> Program | None:
        if plan in self._held:
            self._held.move_to_end(plan)
            return self._held[plan]
        return self._pinned.get(plan)

    def _begin(self, plan: Plan) -> _Compilation[Program]:
        if self._closed:
            raise _stopping()
        work = self._queue.submit(self._compile, plan)
        compilation = self._compiling[plan] = _Compilation(work=work, waiting=[])
        return compilation

    def _compile(self, plan: Plan) -> Program:
        program = self._compile_plan(plan)
        self._on_compile(program.compile_seconds)
        return program

    def _settle(self, plan: Plan, work: Future[Program]) -> None:
        """Holds a program that is done, and answers all who wait for it."""
        with self._lock:
            waiting = self._compiling.pop(plan).waiting
            if not work.cancelled() and work.exception() is None:
                self._held[plan] = work.result()
                while len(self._held) > self._capacity:
                    self._held.popitem(last=False)
        for asked in waiting:
            if asked.set_running_or_notify_cancel():
                _copy(work, asked)

    def _give_up(self, plan: Plan, asked: Future[Program]) -> None:
        """Takes back what only one who has given up was waiting for, if it has not begun."""
        if not asked.cancelled():
            return
        with self._lock:
            compilation = self._compiling.get(plan)
            if compilation is None or asked not in compilation.waiting:
                return
            compilation.waiting.remove(asked)
            if not compilation.waiting:
                compilation.work.cancel()


def _copy(work: Future[Program], asked: Future[Program]) -> None:
    if work.cancelled():
        asked.set_exception(_stopping())
    elif error := work.exception():
        asked.set_exception(error)
    else:
        asked.set_result(work.result())


def _stopping() -> UnavailableError:
    return UnavailableError("the server is stopping", reason="STOPPING")
