"""The cache of programs: each compiled once, so many held, failures not kept."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from fluoroscope_server.engine.plan import Plan
from fluoroscope_server.engine.program import Program
from fluoroscope_server.engine.program_cache import ProgramCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WAIT = 20


class Compiler:
    """Compiles nothing, when it is let; counts how often it is asked."""

    def __init__(self) -> None:
        self.asked: list[Plan] = []
        self.told: list[float] = []
        self.begun = threading.Event()
        self.go = threading.Event()
        self.go.set()
        self.failure: Exception | None = None

    def __call__(self, plan: Plan) -> Program:
        self.asked.append(plan)
        self.begun.set()
        assert self.go.wait(WAIT)
        if self.failure is not None:
            raise self.failure
        return Program(plan=plan, stages=(), constants={}, variables=(), flops=0.0, compile_seconds=plan.bucket / 10)


@pytest.fixture
def compiler() -> Compiler:
    return Compiler()


@pytest.fixture
def cache(compiler: Compiler) -> Iterator[Callable[[int], ProgramCache]]:
    made: list[ProgramCache] = []

    def make(capacity: int) -> ProgramCache:
        made.append(ProgramCache(compiler, capacity=capacity, on_compile=compiler.told.append))
        return made[-1]

    yield make
    compiler.go.set()
    for each in made:
        each.close()


def plan(bucket: int) -> Plan:
    return Plan(bucket=bucket)


def test_a_plan_is_compiled_once_however_many_ask(compiler: Compiler, cache: Callable[[int], ProgramCache]) -> None:
    programs = cache(8)
    compiler.go.clear()
    together = threading.Barrier(8)

    def ask(_: int) -> Program:
        together.wait(WAIT)
        future = programs.request(plan(3))
        if future is programs.request(plan(3)):
            compiler.go.set()
        return future.result(WAIT)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(8)))
    assert compiler.asked == [plan(3)]
    assert all(each is found[0] for each in found)
    assert compiler.told == [0.3]
    assert programs.request(plan(3)).done()


def test_a_compile_blocks_nobody_who_needs_another_program(
    compiler: Compiler, cache: Callable[[int], ProgramCache]
) -> None:
    programs = cache(8)
    programs.request(plan(1)).result(WAIT)
    compiler.begun.clear()
    compiler.go.clear()
    slow = programs.request(plan(2))
    assert compiler.begun.wait(WAIT)
    assert programs.request(plan(1)).done()
    assert not slow.done()
    compiler.go.set()
    slow.result(WAIT)


@pytest.mark.parametrize("capacity", [1, 2, 3])
def test_those_used_last_are_held(capacity: int, compiler: Compiler, cache: Callable[[int], ProgramCache]) -> None:
    programs = cache(capacity)
    for bucket in (1, 2, 3, 4):
        programs.request(plan(bucket)).result(WAIT)
        programs.request(plan(1)).result(WAIT)  # used between all others, it stays unless it is alone
    assert len(programs) == capacity
    assert compiler.asked.count(plan(1)) == (1 if capacity > 1 else 4)
    before = len(compiler.asked)
    for bucket in ([1, 4, 3] if capacity > 1 else [1])[:capacity]:
        programs.request(plan(bucket)).result(WAIT)
    assert len(compiler.asked) == before
    programs.request(plan(2)).result(WAIT)
    assert len(compiler.asked) == before + 1
    assert len(programs) == capacity


def test_who_waits_for_a_program_that_is_dropped_meanwhile_gets_it(
    compiler: Compiler, cache: Callable[[int], ProgramCache]
) -> None:
    programs = cache(1)
    compiler.go.clear()
    futures = [programs.request(plan(bucket)) for bucket in (1, 2, 3)]
    compiler.go.set()
    assert [future.result(WAIT).plan.bucket for future in futures] == [1, 2, 3]
    assert len(programs) == 1


def test_a_failure_reaches_all_who_ask_and_is_not_kept(
    compiler: Compiler, cache: Callable[[int], ProgramCache]
) -> None:
    programs = cache(4)
    compiler.failure = RuntimeError("out of registers")
    compiler.go.clear()
    futures = [programs.request(plan(1)) for _ in range(3)]
    compiler.go.set()
    for future in futures:
        with pytest.raises(RuntimeError, match="out of registers"):
            future.result(WAIT)
    programs.request(plan(2)).exception(WAIT)  # behind the first on the same thread: its failure is settled
    assert compiler.told == []
    compiler.failure = None
    assert programs.request(plan(1)).result(WAIT).plan == plan(1)
    assert compiler.asked == [plan(1), plan(2), plan(1)]


def test_a_failure_that_was_dropped_meanwhile_takes_nothing_with_it(
    compiler: Compiler, cache: Callable[[int], ProgramCache]
) -> None:
    programs = cache(1)
    compiler.failure = RuntimeError("no")
    compiler.go.clear()
    first, other = programs.request(plan(1)), programs.request(plan(2))
    again = programs.request(plan(1))
    assert again is not first
    compiler.go.set()
    for future in (first, other, again):
        assert isinstance(future.exception(WAIT), RuntimeError)


def test_pinned_programs_are_never_dropped(compiler: Compiler, cache: Callable[[int], ProgramCache]) -> None:
    programs = cache(1)
    programs.pin(plan(9))
    for bucket in (1, 2, 3):
        programs.request(plan(bucket)).result(WAIT)
    assert len(programs) == 2
    assert compiler.told == pytest.approx([0.9, 0.1, 0.2, 0.3])


def test_a_pin_that_fails_is_not_kept(compiler: Compiler, cache: Callable[[int], ProgramCache]) -> None:
    programs = cache(1)
    compiler.failure = RuntimeError("no")
    with pytest.raises(RuntimeError, match="no"):
        programs.pin(plan(9))
    assert len(programs) == 0


def test_closing_tells_those_whose_compile_has_not_begun(
    compiler: Compiler, cache: Callable[[int], ProgramCache]
) -> None:
    programs = cache(4)
    compiler.go.clear()
    running, waiting = programs.request(plan(1)), programs.request(plan(2))
    assert compiler.begun.wait(WAIT)
    programs.close()
    with pytest.raises(CancelledError):
        waiting.result(WAIT)
    compiler.go.set()
    assert running.result(WAIT).plan == plan(1)
    assert compiler.asked == [plan(1)]
