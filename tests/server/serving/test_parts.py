"""Predictions in parts: many rows are answered as one, and whoever waits besides is not held up by all of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fluoroscope_server.engine import Engine
from fluoroscope_server.errors import LimitExceededError
from fluoroscope_server.families.function import PureFunction, function_network
from fluoroscope_server.serving import DeviceQueue, StageClock
from fluoroscope_server.serving.batcher import Batcher
from fluoroscope_server.serving.parts import MOST_PARTS, check_rows, predict_in_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence

    import jax

    from fluoroscope_server.model_config import ModelConfig
    from fluoroscope_server.serving.batcher import Job
    from fluoroscope_server.serving.parts import Inputs, Outputs

POISON = -1.0


class Negative:
    """A network that negates, and fails if some row is `POISON`."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []

    def __call__(self, jobs: Sequence[Job[Inputs]]) -> list[Outputs]:
        self.batches.append([float(x) for job in jobs for x in job.asked["x"]])
        for job in jobs:
            job.clock.lap("compute")
        if any(POISON in job.asked["x"] for job in jobs):
            raise ValueError("poisoned")
        return [{"y": -job.asked["x"]} for job in jobs]


@pytest.fixture
def network() -> Negative:
    return Negative()


@pytest.fixture
def batcher(network: Negative) -> Iterator[Batcher[Inputs, Outputs]]:
    """Joins up to four rows, a batch at a time."""
    queue = DeviceQueue("parts")
    yield Batcher(network, queue, max_rows=4, expected_seconds=lambda _: 1.0)
    queue.close()


def run(main: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(main, 20))


async def predict(batcher: Batcher[Inputs, Outputs], x: np.ndarray, clock: StageClock, client: str = "") -> np.ndarray:
    outputs = await predict_in_parts(batcher, {"x": x}, len(x), clock, size=4, client=client)
    return outputs["y"]


@pytest.mark.parametrize("rows", [5, 8, 9])
def test_many_rows_are_answered_as_one(rows: int, batcher: Batcher[Inputs, Outputs], network: Negative) -> None:
    x, clock = np.arange(float(rows)), StageClock()
    np.testing.assert_array_equal(run(predict(batcher, x, clock)), -x)
    assert [row for batch in network.batches for row in batch] == x.tolist()
    assert max(map(len, network.batches)) == 4
    assert [stage for stage, _ in clock.times] == ["compute"], "once, not for each part"


def test_others_come_between_the_parts(batcher: Batcher[Inputs, Outputs], network: Negative) -> None:
    async def main() -> None:
        many = asyncio.ensure_future(predict(batcher, np.arange(16.0), StageClock(), "greedy"))
        await asyncio.sleep(0)
        other = await batcher.submit({"x": np.array([100.0])}, 1, StageClock(), client="modest")
        assert other["y"].tolist() == [-100]
        assert not many.done()
        await many

    run(main())
    assert network.batches[1] == [100.0]


def test_a_part_that_fails_takes_the_others_back(batcher: Batcher[Inputs, Outputs], network: Negative) -> None:
    with pytest.raises(ValueError, match="poisoned"):
        run(predict(batcher, np.array([POISON] * 16), StageClock()))
    assert len(network.batches) < 4
    assert batcher.waiting == 0


def mixing(_: Any, inputs: Mapping[str, jax.Array]) -> jax.Array:
    x = inputs["x"]
    return x - x.mean(axis=0, keepdims=True)


@pytest.mark.parametrize(("buckets", "rows", "size"), [((1,), 1, 1), ((1,), 2, 1), ((2, 4), 3, 3), ((2, 4), 9, 4)])
def test_rows_that_run_at_once(
    buckets: tuple[int, ...], rows: int, size: int, config: Callable[..., ModelConfig]
) -> None:
    engine = make(lambda _, inputs: -inputs["x"], buckets, config)
    assert check_rows(engine, rows) == size
    with pytest.raises(LimitExceededError, match=f"the limit is {MOST_PARTS * buckets[-1]}, 16 times the largest"):
        check_rows(engine, MOST_PARTS * buckets[-1] + 1)


def test_a_batch_whose_rows_are_mixed_is_never_cut(config: Callable[..., ModelConfig]) -> None:
    engine = make(mixing, (2, 4), config)
    assert check_rows(engine, 4) == 4
    with pytest.raises(LimitExceededError, match="the largest bucket of this model has 4"):
        check_rows(engine, 8)


def make(apply: Callable[..., jax.Array], buckets: tuple[int, ...], config: Callable[..., ModelConfig]) -> Engine:
    network = function_network(PureFunction(apply=apply, variables={}), config(buckets=list(buckets)))
    return Engine(network, {}, buckets=buckets)
