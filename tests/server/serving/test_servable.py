"""A servable answers: predictions, inspections, and their limits."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

from fluoroscope_server.engine import Capture, Execution, Full, SiteStatistics, Statistics, read
from fluoroscope_server.engine import engine as engine_module
from fluoroscope_server.engine.program import compile_program
from fluoroscope_server.errors import InvalidRequestError, LimitExceededError, NotFoundError
from fluoroscope_server.serving import Limits, StageClock, load
from fluoroscope_server.serving.limits import DEFAULT_LIMITS
from fluoroscope_server.settings import ModelSource

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping, Sequence
    from pathlib import Path

    from fluoroscope_server.engine import Program, Result
    from fluoroscope_server.engine.plan import Plan
    from fluoroscope_server.engine.program_cache import Requested
    from fluoroscope_server.engine.question import Question
    from fluoroscope_server.errors import FluoroscopeError
    from fluoroscope_server.families.base_network import BaseNetwork
    from fluoroscope_server.serving import Answer, DeviceQueue, Servable

MANY = np.random.default_rng(0).normal(size=(64, 2, 2)).astype(np.float32)
X = MANY[:4]
EVERYTHING = Capture(sites=("activations/*",), reductions=(Full(), Statistics()))
TENSORS = Capture(sites=("activations/*",))


def run(main: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(main, 60))


async def ask(
    servable: Servable,
    *captures: Capture,
    x: np.ndarray = X,
    outputs: Sequence[str] = (),
    max_bytes: int = 0,
    limits: Limits = DEFAULT_LIMITS,
    execution: Execution = Execution.AUTO,
) -> Answer:
    return await servable.inspect(
        {"image": x}, captures, outputs, max_bytes=max_bytes, clock=StageClock(), execution=execution, limits=limits
    )


async def results(answer: Answer) -> list[Result]:
    return [result async for batch in answer.results() for result in batch]


@pytest.mark.parametrize("rows", [1, 3, 4, 6, 64])
def test_predict(rows: int, servable: Servable, module: BaseNetwork, variables: Any) -> None:
    clock = StageClock()
    answer = run(servable.predict({"image": MANY[:rows]}, (), clock))
    assert list(answer) == ["logits"]
    want: Any = module.apply(variables, MANY[:rows])
    np.testing.assert_allclose(answer["logits"], want, rtol=1e-5, atol=1e-6)
    stages = [stage for stage, _ in clock.times]
    assert stages == ["decode", "queue", "pad", "compute", "device_to_host"]


def test_predictions_at_once(servable: Servable) -> None:
    async def main() -> None:
        alone = [await servable.predict({"image": X[: 1 + index % 4]}, (), StageClock()) for index in range(4)]
        together = await asyncio.gather(
            *(servable.predict({"image": X[: 1 + index % 4]}, ["logits"], StageClock()) for index in range(32))
        )
        for index, answer in enumerate(together):
            np.testing.assert_allclose(answer["logits"], alone[index % 4]["logits"], rtol=1e-5, atol=1e-6)

    run(main())


@pytest.mark.parametrize(
    ("x", "outputs", "error", "message"),
    [
        (X.astype(np.float64), (), InvalidRequestError, "came as float64"),
        (X, ["logit"], InvalidRequestError, "there is no output 'logit'; the outputs are logits"),
        (
            np.zeros((65, 2, 2), np.float32),
            (),
            LimitExceededError,
            "the inputs have 65 rows, and the limit is 64, 16 times",
        ),
    ],
)
def test_predict_refuses(
    x: np.ndarray, outputs: Sequence[str], error: type[FluoroscopeError], message: str, servable: Servable
) -> None:
    with pytest.raises(error, match=message):
        run(servable.predict({"image": x}, outputs, StageClock()))


def test_inspect(servable: Servable, module: BaseNetwork, variables: Any) -> None:
    async def main() -> tuple[Answer, list[Result]]:
        answer = await ask(servable, EVERYTHING, x=X[:3], outputs=["logits"])
        return answer, await results(answer)

    answer, found = run(main())
    apply = jax.jit(lambda variables, x: module.apply(variables, x, return_activations=True))
    _, activations = apply(variables, np.concatenate([X[:3], np.zeros_like(X[:1])]))
    specs = answer.inspection.results
    assert [spec.name for spec in specs] == [f"activations/{index // 2}" for index in range(10)] + ["logits"]
    for spec, result in zip(specs, found, strict=True):
        want = np.asarray(activations[int(spec.name[-1]) if spec.site else -1])[:3]
        if isinstance(result, SiteStatistics):
            assert result.mean == pytest.approx(want.mean(dtype=np.float64), rel=1e-5, abs=1e-6)
        else:
            np.testing.assert_array_equal(result, want)


def test_a_program_is_held_from_then_on(servable: Servable) -> None:
    async def main() -> None:
        question = Capture(sites=("Dense_1",))
        first, second = await ask(servable, question), await ask(servable, question, x=X[:2])
        assert (first.held, second.held) == (False, True)
        assert first.program is second.program
        again = await asyncio.gather(*(ask(servable, Capture(sites=("Dense_2",))) for _ in range(8)))
        assert len({id(answer.program) for answer in again}) == 1

    run(main())


def test_a_quick_compiler_has_compiled_all_the_same(servable: Servable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its program is there before anybody looks, and was not held when it was asked for."""
    request = servable.engine.program

    def waited_for(plan: Plan) -> Requested[Program]:
        asked = request(plan)
        asked.result(60)
        return asked

    monkeypatch.setattr(servable.engine, "program", waited_for)

    async def main() -> None:
        question = Capture(sites=("relu:0", "Dense_2"))  # which no other test asks for
        assert not (await ask(servable, question)).held
        assert (await ask(servable, question)).held

    run(main())


class Gate:
    """Lets the compiler begin, and goes on with it when it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = threading.Event()
        self.open = threading.Event()
        self.compiled: list[Plan] = []

        def gated(question: Question, *more: Any) -> Program:
            self.begun.set()
            assert self.open.wait(60)
            self.compiled.append(question.plan)
            return compile_program(question, *more)

        monkeypatch.setattr(engine_module, "compile_program", gated)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made = Gate(monkeypatch)
    yield made
    made.open.set()


async def until_begun(gate: Gate) -> None:
    assert await asyncio.to_thread(gate.begun.wait, 60)


def test_predictions_and_held_programs_are_answered_while_others_are_compiled(servable: Servable, gate: Gate) -> None:
    async def main() -> None:
        gate.open.set()
        await ask(servable, TENSORS)
        gate.open.clear()
        gate.begun.clear()
        waiting = [asyncio.ensure_future(ask(servable, Capture(sites=(site,)))) for site in ("Dense_0", "relu:0")]
        await until_begun(gate)
        for rows in (1, 2, 3, 4):
            together = await asyncio.gather(
                *(servable.predict({"image": X[:rows]}, (), StageClock()) for _ in range(20)),
                servable.predict({"image": X[:rows]}, (), StageClock(), alone=True),
            )
            assert {answer["logits"].shape for answer in together} == {(rows, 3)}
        assert len(await results(await ask(servable, TENSORS))) == 5
        assert not any(each.done() for each in waiting), "the compiler is at work all the time"
        gate.open.set()
        for answer in await asyncio.gather(*waiting):
            assert not answer.held
            assert len(await results(answer)) == 1

    run(main())


def slow_to_compile(variables: Any, inputs: Mapping[str, jax.Array]) -> jax.Array:
    """A network of forty sites, of which each costs the compiler a while."""
    x: jax.Array = inputs["image"] * variables["scale"]
    for index in range(40):
        x = checkpoint_name(jnp.sin(x), f"waves/{index}")
    return x


def test_predictions_are_answered_while_the_compiler_takes_its_time(
    *,
    tmp_path: Path,
    save: Callable[..., Path],
    device: DeviceQueue,
    model_config: dict[str, Any],
    family: Callable[[Any], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun = threading.Event()

    def announced(*arguments: Any) -> Program:
        begun.set()
        return compile_program(*arguments)

    config = {**model_config, "family": family(lambda _: slow_to_compile), "buckets": [4]}
    path = save(tmp_path / "run", {"scale": np.float32(1)}, config)
    servable = load(ModelSource(name="slow", path=path), device, capacity=8, on_compile=lambda _: None)
    monkeypatch.setattr(engine_module, "compile_program", announced)

    async def main() -> int:
        question = Capture(sites=("waves/*",), reductions=(Statistics(),))
        inspection = asyncio.ensure_future(ask(servable, question))
        assert await asyncio.to_thread(begun.wait, 60)
        answered = 0
        while True:
            await servable.predict({"image": X}, (), StageClock())
            if inspection.done():
                return answered
            answered += 1  # asked and answered between the compiler's beginning and its end

    assert run(main()) >= 10
    servable.engine.close()


def test_who_gives_up_before_it_is_compiled_costs_nothing(servable: Servable, gate: Gate) -> None:
    async def main() -> None:
        first = asyncio.ensure_future(ask(servable, Capture(sites=("Dense_0", "Dense_2"))))
        await until_begun(gate)
        dropped = asyncio.ensure_future(ask(servable, Capture(sites=("Dense_0", "relu:1"))))
        kept = asyncio.ensure_future(ask(servable, Capture(sites=("relu:0", "relu:1"))))
        await asyncio.sleep(0)  # both are waiting now
        dropped.cancel()
        await asyncio.wait([dropped])
        gate.open.set()
        plans = [(await each).inspection.plan for each in (first, kept)]
        assert gate.compiled == plans

    run(main())


def test_who_gives_up_while_it_is_compiled_leaves_the_program_to_others(servable: Servable) -> None:
    async def main() -> None:
        question = Capture(sites=("relu:*", "Dense_0"))
        giving_up = asyncio.ensure_future(ask(servable, question))
        waiting = asyncio.ensure_future(ask(servable, question))
        await asyncio.sleep(0)
        giving_up.cancel()
        answer = await waiting
        assert len(await results(answer)) == 3
        with pytest.raises(asyncio.CancelledError):
            await giving_up

    run(main())


def test_an_inspection_may_be_too_large(servable: Servable) -> None:
    size = 4 * 4 * (8 + 8 + 6 + 6 + 3)
    run(ask(servable, EVERYTHING, max_bytes=size))
    with pytest.raises(
        LimitExceededError,
        match=rf"this inspection would send {size} bytes, and the limit is {size - 1} \(max_bytes of the request\): ",
    ) as caught:
        run(ask(servable, EVERYTHING, max_bytes=size - 1))
    assert (caught.value.field, caught.value.reason) == ("max_bytes", "INSPECTION_TOO_LARGE")
    for allowed in (0, size, 1 << 60):
        with pytest.raises(LimitExceededError, match=rf"the limit is {size - 1} \(max-inspection-mib\): ") as caught:
            run(ask(servable, EVERYTHING, max_bytes=allowed, limits=Limits(max_inspection_bytes=size - 1)))
        assert (caught.value.field, caught.value.reason) == ("captures", "INSPECTION_TOO_LARGE")


def test_inspect_refuses(servable: Servable) -> None:
    with pytest.raises(NotFoundError, match="there is no site 'Dense_7'"):
        run(ask(servable, Capture(sites=("Dense_7",))))
    with pytest.raises(InvalidRequestError, match="came as float32"):
        run(ask(servable, EVERYTHING, x=X[0]))


def test_small_results_come_together_and_large_ones_alone(servable: Servable, monkeypatch: pytest.MonkeyPatch) -> None:
    """But where there is nothing to bring to the host each comes alone, without a change of thread."""

    async def sizes() -> list[int]:
        answer = await ask(servable, EVERYTHING)
        return [len(batch) async for batch in answer.results()]

    monkeypatch.setattr("fluoroscope_server.serving.answer.device_is_host", lambda: True)
    assert run(sizes()) == [1] * 10
    monkeypatch.setattr("fluoroscope_server.serving.answer.device_is_host", lambda: False)
    assert run(sizes()) == [10]
    monkeypatch.setattr("fluoroscope_server.serving.answer.BATCH_BYTES", 1)
    assert run(sizes()) == [1] * 10


@pytest.mark.parametrize("shares_memory", [True, False])
def test_an_answer_that_nobody_reads_to_its_end(
    servable: Servable, monkeypatch: pytest.MonkeyPatch, shares_memory: bool
) -> None:
    monkeypatch.setattr("fluoroscope_server.serving.answer.device_is_host", lambda: shares_memory)
    monkeypatch.setattr("fluoroscope_server.serving.answer.BATCH_BYTES", 1)
    taken: list[object] = []

    def counting(*arguments: Any) -> Result:
        taken.append(arguments)
        return read(*arguments)

    monkeypatch.setattr("fluoroscope_server.serving.answer.read", counting)

    async def main() -> None:
        batches = (await ask(servable, EVERYTHING)).results()
        assert len(await anext(batches)) == 1
        await cast("AsyncGenerator[list[Result]]", batches).aclose()

    run(main())
    assert len(taken) <= 2  # no more than one ahead


@pytest.mark.parametrize("shares_memory", [True, False])
def test_an_error_while_results_are_read_is_the_readers(
    servable: Servable, monkeypatch: pytest.MonkeyPatch, shares_memory: bool
) -> None:
    monkeypatch.setattr("fluoroscope_server.serving.answer.device_is_host", lambda: shares_memory)

    def failing(*_: Any) -> Result:
        raise OSError("no room")

    async def main() -> None:
        answer = await ask(servable, EVERYTHING)
        with monkeypatch.context() as patch:
            patch.setattr("fluoroscope_server.serving.answer.read", failing)
            with pytest.raises(OSError, match="no room"):
                await results(answer)
        assert len(await results(await ask(servable, EVERYTHING))) == 10

    run(main())
