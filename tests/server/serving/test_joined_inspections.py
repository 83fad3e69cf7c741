"""Inspections that are joined: each gets its own rows, as if it had been alone, and nobody pays for another."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fluoroscope_server.engine import Capture, Cast, Execution, Full, Mean, Norm, Slice, Statistics, TopK
from fluoroscope_server.engine import engine as engine_module
from fluoroscope_server.engine.program import compile_program
from fluoroscope_server.serving import StageClock, joined_inspections

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from fluoroscope_server.engine import Engine, Program, Result
    from fluoroscope_server.engine.question import Question
    from fluoroscope_server.serving import Answer, DeviceQueue, Servable
    from fluoroscope_server.serving.batcher import Job
    from fluoroscope_server.serving.tally import Tally

WAIT = 60
X = np.random.default_rng(3).normal(size=(4, 2, 2)).astype(np.float32)
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
ROW_BY_ROW = {
    "full": Capture(sites=("Dense_*", "relu:*")),
    "sliced": Capture(sites=("Dense_*",), slices=(Slice(axis=1, start=1, stop=3),)),
    "norms": Capture(sites=("Dense_*",), reductions=(Norm(axes=(1,)), Mean(axes=(-1,)))),
    "greatest": Capture(sites=("Dense_*",), reductions=(TopK(k=2), Cast(reduction=Full(), dtype=BFLOAT16))),
}
ACROSS_ROWS = {
    "statistics": Capture(sites=("Dense_0",), reductions=(Full(), Statistics())),
    "mean": Capture(sites=("Dense_0",), reductions=(Mean(axes=(0,)),)),
    "a row": Capture(sites=("Dense_0",), slices=(Slice(axis=0, start=0, stop=1),)),
    "int8": Capture(sites=("Dense_0",), reductions=(Cast(reduction=Full(), dtype=np.dtype(np.int8)),)),
}


class Batches:
    """The rows of each inspection of each batch that was run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: list[list[int]] = []
        run = joined_inspections.inspect_batch

        def watched(engine: Engine, tally: Tally, jobs: Sequence[Job[Any]]) -> list[list[Result]]:
            self.rows.append([job.rows for job in jobs])
            return run(engine, tally, jobs)

        monkeypatch.setattr(joined_inspections, "inspect_batch", watched)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> Batches:
    return Batches(monkeypatch)


class Busy:
    """Keeps the device at work."""

    def __init__(self, device: DeviceQueue) -> None:
        self.device = device
        self.go = threading.Event()

    async def __aenter__(self) -> None:
        self.work = self.device.submit(lambda: self.go.wait(WAIT))

    async def __aexit__(self, *_: object) -> None:
        for _turn in range(5):  # until all who ask have come
            await asyncio.sleep(0)
        self.go.set()
        await self.work


def run(main: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(main, WAIT))


async def ask(
    servable: Servable,
    capture: Capture,
    x: np.ndarray,
    *,
    outputs: Sequence[str] = (),
    execution: Execution = Execution.AUTO,
) -> Answer:
    return await servable.inspect(
        {"image": x}, [capture], outputs, max_bytes=1 << 30, clock=StageClock(), execution=execution
    )


async def results(answer: Answer) -> list[Result]:
    return [result async for batch in answer.results() for result in batch]


async def all_at_once(servable: Servable, answers: Sequence[Answer]) -> list[asyncio.Task[list[Result]]]:
    """Reads answers while the device is busy, so that they wait together."""
    async with Busy(servable.device):
        return [asyncio.create_task(results(answer)) for answer in answers]


def assert_same(found: list[Result], want: list[Result]) -> None:
    """Up to the last bits: a batch of another size may round them otherwise."""
    for one, other in zip(found, want, strict=True):
        assert isinstance(one, np.ndarray)
        assert isinstance(other, np.ndarray)
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        tolerance = 1e-2 if one.dtype == BFLOAT16 else 1e-5
        np.testing.assert_allclose(one.astype(np.float64), other.astype(np.float64), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("what", ROW_BY_ROW)
def test_what_waits_with_the_same_question_goes_together(what: str, servable: Servable, batches: Batches) -> None:
    async def main() -> None:
        shares = [X[:1], X[1:2], X[2:3], X[1:4]]
        answers = [await ask(servable, ROW_BY_ROW[what], x, outputs=["logits"]) for x in shares]
        alone = [await results(await ask(servable, ROW_BY_ROW[what], x, outputs=["logits"])) for x in shares]
        batches.rows.clear()
        for reading, want in zip(await all_at_once(servable, answers), alone, strict=True):
            assert_same(await reading, want)

    run(main())
    assert batches.rows == [[1, 1, 1], [3]], "four rows fill a batch"


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(sorted(ROW_BY_ROW)), st.integers(0, 2), st.integers(1, 2)), max_size=10))
def test_any_that_come_together(servable: Servable, asked: list[tuple[str, int, int]]) -> None:
    async def main() -> None:
        questions = [(ROW_BY_ROW[what], X[start : start + rows]) for what, start, rows in asked]
        answers = [await ask(servable, *question) for question in questions]
        alone = [await results(await ask(servable, *question)) for question in questions]
        for reading, want in zip(await all_at_once(servable, answers), alone, strict=True):
            assert_same(await reading, want)

    run(main())


def test_only_so_much_goes_together(servable: Servable, batches: Batches, monkeypatch: pytest.MonkeyPatch) -> None:
    capture = Capture(sites=("Dense_0",))
    monkeypatch.setattr(joined_inspections, "TOGETHER_BYTES", 4 * 8 * 4 - 1)  # four rows of eight floats are more

    async def main() -> None:
        answers = [await ask(servable, capture, x) for x in (X[:1], X[1:2], X[2:3])]
        for reading in await all_at_once(servable, answers):
            assert len(await reading) == 1

    run(main())
    assert batches.rows == [[1]] * 3


def test_other_numbers_are_another_question(servable: Servable, batches: Batches) -> None:
    """A slice that starts elsewhere is the same program, but not the same run."""

    async def main() -> None:
        captures = [Capture(sites=("Dense_0",), slices=(Slice(axis=1, start=at, stop=at + 2),)) for at in (0, 1, 0, 1)]
        answers = [await ask(servable, capture, X[:2]) for capture in captures]
        assert len({id(answer.program) for answer in answers}) == 1
        alone = [await results(await ask(servable, capture, X[:2])) for capture in captures]
        batches.rows.clear()
        for reading, want in zip(await all_at_once(servable, answers), alone, strict=True):
            assert_same(await reading, want)

    run(main())
    assert batches.rows == [[2, 2]] * 2


@pytest.mark.parametrize("what", ACROSS_ROWS)
def test_what_is_computed_over_rows_goes_alone(what: str, servable: Servable) -> None:
    answer = run(ask(servable, ACROSS_ROWS[what], X[:2]))
    assert answer.together is None


def test_stages_and_large_answers_go_alone(servable: Servable, monkeypatch: pytest.MonkeyPatch) -> None:
    question = ROW_BY_ROW["full"]
    assert run(ask(servable, question, X)).together is not None
    assert run(ask(servable, question, X, execution=Execution.STAGED)).together is None
    monkeypatch.setattr("fluoroscope_server.engine.joining.JOINED_BYTES", 100)
    assert run(ask(servable, question, X)).together is None


def test_nobody_waits_for_the_program_of_a_larger_batch(
    servable: Servable, batches: Batches, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it is there, who waits goes alone; then they go together."""
    compiler = threading.Event()
    compiled: list[int] = []

    def gated(question: Question, *more: Any) -> Program:
        assert question.plan.bucket == 1 or compiler.wait(WAIT)
        compiled.append(question.plan.bucket)
        return compile_program(question, *more)

    monkeypatch.setattr(engine_module, "compile_program", gated)

    async def main() -> None:
        question = Capture(sites=("relu:1", "Dense_1"))
        answers = [await ask(servable, question, X[:1]) for _ in range(3)]
        for reading in await all_at_once(servable, answers):
            assert len(await reading) == 2
        assert batches.rows == [[1]] * 3
        compiler.set()
        assert not (await ask(servable, question, X)).held, "it is being compiled"
        for reading in await all_at_once(servable, answers):
            assert len(await reading) == 2
        assert batches.rows[3:] == [[1, 1, 1]]
        assert compiled == [1, 4]

    try:
        run(main())
    finally:
        compiler.set()


def test_a_program_that_is_pushed_out_meanwhile(
    servable: Servable, batches: Batches, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who were to go together go alone."""

    async def main() -> None:
        shares = [X[:1], X[1:2], X[2:3]]
        await ask(servable, ROW_BY_ROW["full"], X)
        answers = [await ask(servable, ROW_BY_ROW["full"], x) for x in shares]
        alone = [await results(await ask(servable, ROW_BY_ROW["full"], x)) for x in shares]
        batches.rows.clear()
        async with Busy(servable.device):
            readings = [asyncio.create_task(results(answer)) for answer in answers]
            for _turn in range(5):
                await asyncio.sleep(0)
            monkeypatch.setattr(type(servable.engine), "held", lambda *_: None)
        for reading, want in zip(readings, alone, strict=True):
            assert_same(await reading, want)

    run(main())
    assert batches.rows == [[1, 1, 1], [1], [1], [1]]


def test_who_gives_up_hurts_nobody(servable: Servable, batches: Batches) -> None:
    async def main() -> None:
        question = ROW_BY_ROW["norms"]
        await ask(servable, question, X)  # the program for four rows
        answers = [await ask(servable, question, x) for x in (X[:1], X[1:2], X[2:3], X[3:])]
        alone = [await results(await ask(servable, question, x)) for x in (X[:1], X[1:2], X[2:3], X[3:])]
        batches.rows.clear()
        async with Busy(servable.device):
            readings = [asyncio.create_task(results(answer)) for answer in answers]
            for _turn in range(5):
                await asyncio.sleep(0)
            readings[0].cancel()
            readings[2].cancel()
        for place in (1, 3):
            assert_same(await readings[place], alone[place])

    run(main())
    assert batches.rows == [[1, 1]], "of four, which were a batch"


def test_nobody_holds_the_memory_of_others(servable: Servable) -> None:
    async def main() -> None:
        answers = [await ask(servable, ROW_BY_ROW["full"], x) for x in (X[:1], X[1:2], X[2:3], X)]
        _, second, third = await all_at_once(servable, answers[:3])
        for reading in (second, third):
            for array in await reading:
                assert isinstance(array, np.ndarray)
                assert array.base is None

    run(main())


def test_questions_that_nobody_asks_any_more_are_forgotten(servable: Servable) -> None:
    async def main() -> None:
        for width in range(1, 5):
            capture = Capture(sites=("Dense_0",), slices=(Slice(axis=1, start=0, stop=width),))
            await results(await ask(servable, capture, X))
        assert len(servable.inspections) == 1

    run(main())
