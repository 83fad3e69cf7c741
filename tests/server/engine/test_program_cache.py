"""The cache of programs: each compiled once, so many held, so many under way, failures not kept."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fluoroscope_server.engine.compile_queue import CompileQueue
from fluoroscope_server.engine.plan import Plan
from fluoroscope_server.engine.program import Program
from fluoroscope_server.engine.program_cache import ProgramCache
from fluoroscope_server.errors import LimitExceededError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

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
def cache(compiler: Compiler) -> Iterator[Callable[..., ProgramCache[Plan, Program]]]:
    made: list[ProgramCache[Plan, Program] | CompileQueue] = []

    def make(capacity: int, queue: CompileQueue | None = None) -> ProgramCache[Plan, Program]:
        queue = queue or CompileQueue(8)
        programs = ProgramCache(compiler, capacity=capacity, queue=queue, on_compile=compiler.told.append)
        made.extend((programs, queue))
        return programs

    yield make
    compiler.go.set()
    for each in made:
        each.close()


def plan(bucket: int) -> Plan:
    return Plan(bucket=bucket)


def test_a_plan_is_compiled_once_however_many_ask(
    compiler: Compiler, cache: Callable[..., ProgramCache[Plan, Program]]
) -> None:
    programs = cache(8)
    compiler.go.clear()
    together = threading.Barrier(8)

    def ask(_: int) -> Program:
        together.wait(WAIT)
        future = programs.request(plan(3))
        if together.wait(WAIT) == 0:  # all have asked
            compiler.go.set()
        return future.result(WAIT)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(8)))
    assert compiler.asked == [plan(3)]
    assert all(each is found[0] for each in found)
    assert compiler.told == [0.3]
    assert programs.request(plan(3)).done()


def test_what_the_compiler_has_made_meanwhile_was_not_held(cache: Callable[..., ProgramCache[Plan, Program]]) -> None:
    programs = cache(8)
    quick = programs.request(plan(3))
    quick.result(WAIT)
    assert not quick.held
    assert programs.request(plan(3)).held


def test_a_compile_blocks_nobody_who_needs_another_program(
    compiler: Compiler, cache: Callable[..., ProgramCache[Plan, Program]]
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
def test_those_used_last_are_held(
    capacity: int, compiler: Compiler, cache: Callable[..., ProgramCache[Plan, Program]]
) -> None:
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


def test_who_waits_gets_the_program_though_others_push_it_out(
    compiler: Compiler, cache: Callable[..., ProgramCache[Plan, Program]]
) -> None:
    programs = cache(1)
    compiler.go.clear()
    futures = [programs.request(plan(bucket)) for bucket in (1, 2, 3, 1)]
    compiler.go.set()
    assert [future.result(WAIT).plan.bucket for future in futures] == [1, 2, 3, 1]
    assert compiler.asked == [plan(1), plan(2), plan(3)], "what is under way is never pushed out"
    assert len(programs) == 1


def test_a_failure_reaches_all_who_ask_and_is_not_kept(
    compiler: Compiler, cache: Callable[..., ProgramCache[Plan, Program]]
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


def test_pinned_programs_are_never_dropped(
    compiler: Compiler, cache: Callable[..., ProgramCache[Plan, Program]]
) -> None:
    programs = cache(1)
    programs.pin(plan(9))
    for bucket in (1, 2, 3):
        programs.request(plan(bucket)).result(WAIT)
    assert len(programs) == 2
    assert compiler.told == pytest.approx([0.9, 0.1, 0.2, 0.3])


def test_a_pin_that_fails_is_not_kept(compiler: Compiler, cache: Callable[..., ProgramCache[Plan, Program]]) -> None:
    programs = cache(1)
    compiler.failure = RuntimeError("no")
    with pytest.raises(RuntimeError, match="no"):
        programs.pin(plan(9))
    assert len(programs) == 0


def test_a_pinned_program_is_held_for_whoever_asks_and_pinned_once(
    compiler: Compiler, cache: Callable[..., ProgramCache[Plan, Program]]
) -> None:
    programs = cache(1)
    pinned = programs.pin(plan(9))
    assert programs.pin(plan(9)) is pinned
    found = programs.request(plan(9))
    assert found.done()
    assert found.result() is pinned
    assert compiler.asked == [plan(9)]


def test_no_more_than_the_limit_are_under_way(
    compiler: Compiler, cache: Callable[..., ProgramCache[Plan, Program]]
) -> None:
    programs = cache(8, CompileQueue(2))
    programs.pin(plan(9))
    programs.request(plan(8)).result(WAIT)
    compiler.go.clear()
    running, waiting = programs.request(plan(1)), programs.request(plan(2))
    message = "^2 programs of this model are being compiled or wait for that, and the limit is 2: ask again later"
    with pytest.raises(LimitExceededError, match=message) as caught:
        programs.request(plan(3))
    assert caught.value.reason == "COMPILES_BUSY"
    joined = [programs.request(plan(1)), programs.request(plan(2))]  # these cost nothing more
    assert programs.request(plan(9)).done()
    assert programs.request(plan(8)).done()
    compiler.go.set()
    assert [each.result(WAIT).plan.bucket for each in (running, waiting, *joined)] == [1, 2, 1, 2]
    assert programs.request(plan(3)).result(WAIT).plan == plan(3)
    assert plan(3) not in compiler.asked[:-1]


def test_caches_with_one_queue_share_its_limit_and_its_thread(
    compiler: Compiler, cache: Callable[..., ProgramCache[Plan, Program]]
) -> None:
    queue = CompileQueue(2)
    one, other = cache(8, queue), cache(8, queue)
    compiler.go.clear()
    running, waiting = one.request(plan(1)), other.request(plan(2))
    assert compiler.begun.wait(WAIT)
    for each in (one, other):
        with pytest.raises(LimitExceededError, match="2 programs of this model"):
            each.request(plan(3))
    assert compiler.asked == [plan(1)], "the second waits for the thread"
    waiting.cancel()
    instead = one.request(plan(3))
    other.close()  # does not touch what the first waits for
    compiler.go.set()
    assert [each.result(WAIT).plan.bucket for each in (running, instead)] == [1, 3]
    assert compiler.asked == [plan(1), plan(3)]


def test_what_nobody_waits_for_any_more_is_not_begun(
    compiler: Compiler, cache: Callable[..., ProgramCache[Plan, Program]]
) -> None:
    programs = cache(8, CompileQueue(2))
    compiler.go.clear()
    running = programs.request(plan(1))
    assert compiler.begun.wait(WAIT)
    both = [programs.request(plan(2)), programs.request(plan(2))]
    both[0].cancel()
    with pytest.raises(LimitExceededError):
        programs.request(plan(3))  # one still waits
    both[1].cancel()
    instead = programs.request(plan(3))
    again = [programs.request(plan(3)), running]
    compiler.go.set()
    assert {each.result(WAIT).plan.bucket for each in (instead, *again)} == {1, 3}
    assert compiler.asked == [plan(1), plan(3)]
    assert programs.request(plan(2)).result(WAIT).plan == plan(2), "who asks later gets it"


def test_what_has_begun_is_held_though_all_gave_up(
    compiler: Compiler, cache: Callable[..., ProgramCache[Plan, Program]]
) -> None:
    programs = cache(8)
    compiler.go.clear()
    begun = programs.request(plan(1))
    assert compiler.begun.wait(WAIT)
    assert begun.cancel()
    compiler.go.set()
    programs.request(plan(2)).result(WAIT)  # behind the first on the same thread
    assert programs.request(plan(1)).done()
    assert compiler.asked == [plan(1), plan(2)]


def test_closing_tells_those_whose_compile_has_not_begun(
    compiler: Compiler, cache: Callable[..., ProgramCache[Plan, Program]]
) -> None:
    programs = cache(4)
    compiler.go.clear()
    running, waiting = programs.request(plan(1)), programs.request(plan(2))
    assert compiler.begun.wait(WAIT)
    programs.close()
    with pytest.raises(UnavailableError, match="the server is stopping"):
        waiting.result(WAIT)
    with pytest.raises(UnavailableError, match="the server is stopping"):
        programs.request(plan(3))
    compiler.go.set()
    assert running.result(WAIT).plan == plan(1)
    assert programs.request(plan(1)).done()
    assert compiler.asked == [plan(1)]


class Life(RuleBasedStateMachine):
    """Anybody asks, gives up, and is answered in any order: the bounds hold, and nobody waits for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.compiler = Compiler()
        self.compiler.go.clear()
        self.queue = CompileQueue(3)
        self.programs = ProgramCache(self.compiler, capacity=2, queue=self.queue, on_compile=self.compiler.told.append)
        self.asked: list[tuple[int, Future[Program]]] = []

    @rule(bucket=st.integers(1, 6))
    def ask(self, bucket: int) -> None:
        try:
            self.asked.append((bucket, self.programs.request(plan(bucket))))
        except LimitExceededError:
            waiting = {each for each, future in self.asked if not future.done()}
            assert bucket not in waiting, "who asks for what is under way is never refused"

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.asked))[1].cancel()

    @rule()
    def answer(self) -> None:
        self.compiler.go.set()
        for bucket, future in self.asked:
            assert future.cancelled() or future.result(WAIT).plan.bucket == bucket
        self.asked.clear()
        self.compiler.go.clear()

    @invariant()
    def so_many_are_held(self) -> None:
        assert len(self.programs) <= 2

    def teardown(self) -> None:
        self.answer()
        self.programs.close()
        self.queue.close()
        self.compiler.go.set()


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
