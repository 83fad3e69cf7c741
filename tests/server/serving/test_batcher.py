"""The batcher: who goes together, in which order, and that nobody is hurt by a neighbour."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluoroscope_server.errors import UnavailableError
from fluoroscope_server.serving import DeviceQueue, StageClock
from fluoroscope_server.serving.batcher import Batcher

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence

    from fluoroscope_server.serving.batcher import Job, Outputs

WAIT = 20
POISON = -1.0


class Doubler:
    """A network that doubles; it may be held, and it fails if some row is `POISON`."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.begun = threading.Semaphore(0)
        self.batches: list[list[int]] = []
        self.threads: list[int] = []

    def __call__(self, jobs: Sequence[Job]) -> list[Outputs]:
        self.batches.append([job.rows for job in jobs])
        self.threads.append(threading.get_ident())
        self.begun.release()
        assert self.go.wait(WAIT)
        whole = np.concatenate([job.inputs["x"] for job in jobs])
        if POISON in whole:
            raise ValueError("poisoned")
        ends = np.cumsum([job.rows for job in jobs])
        return [{"y": whole[end - job.rows : end] * 2} for job, end in zip(jobs, ends, strict=True)]

    async def until_begun(self) -> None:
        assert await asyncio.to_thread(self.begun.acquire, timeout=WAIT)


@pytest.fixture
def network() -> Doubler:
    return Doubler()


@pytest.fixture
def queue() -> Iterator[DeviceQueue]:
    made = DeviceQueue("batches", workers=2)
    yield made
    made.close()


@pytest.fixture
def batcher(network: Doubler, queue: DeviceQueue) -> Batcher:
    """Joins up to four rows; a lone job is quick."""
    return Batcher(network, queue, max_rows=4, expected_seconds=lambda _: 0.0)


def submit(batcher: Batcher, *values: float, alone: bool = False) -> asyncio.Future[Outputs]:
    return batcher.submit({"x": np.array(values)}, len(values), StageClock(), alone=alone)


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(main(), WAIT))


def test_who_comes_in_one_turn_of_the_loop_goes_together(batcher: Batcher, network: Doubler) -> None:
    async def main() -> None:
        answers = await asyncio.gather(submit(batcher, 1), submit(batcher, 2, 3), submit(batcher, 4))
        assert [answer["y"].tolist() for answer in answers] == [[2], [4, 6], [8]]

    run(main)
    assert network.batches == [[1, 2, 1]]
    assert network.threads != [threading.get_ident()]


def test_what_comes_meanwhile_goes_together_in_order(batcher: Batcher, network: Doubler) -> None:
    async def main() -> None:
        network.go.clear()
        first = submit(batcher, 0)
        await network.until_begun()
        meanwhile = [submit(batcher, 1), submit(batcher, 2)]
        await asyncio.sleep(0)
        meanwhile.append(submit(batcher, 3))
        network.go.set()
        assert [(await each)["y"].tolist() for each in (first, *meanwhile)] == [[0], [2], [4], [6]]

    run(main)
    assert network.batches == [[1], [1, 1, 1]]


def test_only_a_full_batch_starts_beside_another(batcher: Batcher, network: Doubler) -> None:
    async def main() -> None:
        network.go.clear()
        futures = [submit(batcher, 0)]
        await network.until_begun()
        futures += [submit(batcher, 1, 2, 3), submit(batcher, 4), submit(batcher, 5)]
        await network.until_begun()  # four rows are full
        futures += [submit(batcher, 6, 7, 8, 9)]  # full too, but both threads have work
        await asyncio.sleep(0.01)
        assert network.batches == [[1], [3, 1]]
        network.go.set()
        await asyncio.gather(*futures)

    run(main)
    assert network.batches == [[1], [3, 1], [1], [4]]


def test_who_is_alone_is_served_at_once(batcher: Batcher, network: Doubler) -> None:
    async def main() -> None:
        future = submit(batcher, 1, alone=True)
        assert future.done()
        assert (await future)["y"].tolist() == [2]

    run(main)
    assert network.threads == [threading.get_ident()]


def test_who_thinks_to_be_alone_waits_for_those_before(batcher: Batcher, network: Doubler) -> None:
    async def main() -> None:
        network.go.clear()
        first = submit(batcher, 1)
        second = submit(batcher, 2, alone=True)
        assert not second.done()
        network.go.set()
        await asyncio.gather(first, second)

    run(main)
    assert network.batches == [[1, 1]]


def test_rows_that_must_not_be_joined(network: Doubler, queue: DeviceQueue) -> None:
    batcher = Batcher(network, queue, max_rows=0, expected_seconds=lambda _: 0.0)

    async def main() -> None:
        await asyncio.gather(*(submit(batcher, value) for value in range(5)))

    run(main)
    assert network.batches == [[1]] * 5


def test_an_error_is_only_of_those_who_cause_it(batcher: Batcher, network: Doubler) -> None:
    async def main() -> None:
        futures = [submit(batcher, 1), submit(batcher, POISON), submit(batcher, 2)]
        answers = await asyncio.gather(*futures, return_exceptions=True)
        assert isinstance(answers[1], ValueError)
        assert [answers[index]["y"].tolist() for index in (0, 2)] == [[2], [4]]  # type: ignore[index]  # no errors
        assert (await submit(batcher, 3))["y"].tolist() == [6]
        with pytest.raises(ValueError, match="poisoned"):
            await submit(batcher, POISON, alone=True)

    run(main)
    assert network.batches == [[1, 1, 1], [1], [1], [1], [1], [1]]


def test_who_gave_up_is_not_computed(batcher: Batcher, network: Doubler) -> None:
    async def main() -> None:
        network.go.clear()
        first = submit(batcher, 0)
        await network.until_begun()
        given_up, kept, other = submit(batcher, 1), submit(batcher, 2), submit(batcher, 3)
        given_up.cancel()
        first.cancel()  # under way
        network.go.set()
        assert ((await kept)["y"].tolist(), (await other)["y"].tolist()) == ([4], [6])

        network.go.clear()
        last = submit(batcher, 4)
        await network.until_begun()
        for future in (submit(batcher, 5), submit(batcher, 6)):
            future.cancel()  # all who wait
        network.go.set()
        assert (await last)["y"].tolist() == [8]
        assert (await submit(batcher, 7))["y"].tolist() == [14]

    run(main)
    assert network.batches == [[1], [1, 1], [1], [1]]


def test_when_the_device_has_stopped(network: Doubler) -> None:
    queue = DeviceQueue("stopped")
    queue.close()
    batcher = Batcher(network, queue, max_rows=4, expected_seconds=lambda _: 0.0)

    async def main() -> None:
        answers = await asyncio.gather(submit(batcher, 1), submit(batcher, 2), return_exceptions=True)
        assert [type(answer) for answer in answers] == [UnavailableError] * 2

    run(main)
    assert network.batches == []


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 3), st.booleans()), max_size=30))
def test_every_answer_is_its_callers(calls: list[tuple[int, int, bool]]) -> None:
    network, queue = Doubler(), DeviceQueue("any", workers=2)
    batcher = Batcher(network, queue, max_rows=6, expected_seconds=lambda _: 0.0)

    async def call(number: int, rows: int, alone: bool) -> None:
        x = np.arange(rows) + 100.0 * number
        answer = await batcher.submit({"x": x}, rows, StageClock(), alone=alone)
        assert answer["y"].tolist() == (2 * x).tolist()

    async def main() -> None:
        tasks = []
        for number, (rows, turns, alone) in enumerate(calls):
            tasks.append(asyncio.create_task(call(number, rows, alone)))
            for _ in range(turns):
                await asyncio.sleep(0)
        await asyncio.gather(*tasks)

    run(main)
    queue.close()
    assert sum(sum(batch) for batch in network.batches) == sum(rows for rows, *_ in calls)
    assert max((sum(batch) for batch in network.batches), default=0) <= 6
