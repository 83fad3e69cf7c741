"""The batcher: who goes together, in which order, and that nobody is hurt by a neighbour."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluoroscope_server.errors import UnavailableError
from fluoroscope_server.serving import DeviceQueue, StageClock
from fluoroscope_server.serving.batcher import AHEAD_SECONDS

from .doubler import POISON, SLOW, WAIT, Doubler, Predictions, run, submit, turns


@pytest.fixture
def batcher(network: Doubler, queue: DeviceQueue) -> Predictions:
    """Joins up to four rows; none of its work is quick."""
    return Predictions(network, queue, max_rows=4, expected_seconds=lambda _: SLOW)


def test_who_comes_in_one_turn_of_the_loop_goes_together(batcher: Predictions, network: Doubler) -> None:
    async def main() -> None:
        answers = await asyncio.gather(submit(batcher, 1), submit(batcher, 2, 3), submit(batcher, 4))
        assert [answer["y"].tolist() for answer in answers] == [[2], [4, 6], [8]]

    run(main)
    assert network.batches == [[1, 2, 1]]
    assert network.threads != [threading.get_ident()]


def test_what_comes_meanwhile_goes_together_in_order(batcher: Predictions, network: Doubler) -> None:
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


def test_only_a_full_batch_starts_beside_another(batcher: Predictions, network: Doubler) -> None:
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
    assert network.batches[:2] == [[1], [3, 1]]
    assert sorted(network.batches[2:]) == [[1], [4]]  # by two threads, of which either may come first


def test_rows_that_must_not_be_joined(network: Doubler, queue: DeviceQueue) -> None:
    batcher = Predictions(network, queue, max_rows=0, expected_seconds=lambda _: SLOW)

    async def main() -> None:
        await asyncio.gather(*(submit(batcher, value) for value in range(5)))

    run(main)
    assert network.batches == [[1]] * 5


def test_an_error_is_only_of_those_who_cause_it(batcher: Predictions, network: Doubler) -> None:
    async def main() -> None:
        futures = [submit(batcher, 1), submit(batcher, POISON), submit(batcher, 2)]
        answers = await asyncio.gather(*futures, return_exceptions=True)
        assert isinstance(answers[1], ValueError)
        assert [each["y"].tolist() for each in answers if not isinstance(each, BaseException)] == [[2], [4]]
        assert (await submit(batcher, 3))["y"].tolist() == [6]
        with pytest.raises(ValueError, match="poisoned"):
            await submit(batcher, POISON)

    run(main)
    assert network.batches == [[1, 1, 1], [1], [1], [1], [1], [1]]


def test_who_gave_up_is_not_computed(batcher: Predictions, network: Doubler) -> None:
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


def test_who_gives_up_waits_no_longer(batcher: Predictions, network: Doubler) -> None:
    async def main() -> None:
        network.go.clear()
        first = submit(batcher, 0)
        await network.until_begun()
        second, third = submit(batcher, 1), submit(batcher, 2)
        assert batcher.waiting == 2
        second.cancel()
        await asyncio.sleep(0)
        assert batcher.waiting == 1
        network.go.set()
        assert [(await each)["y"].tolist() for each in (first, third)] == [[0], [4]]
        assert batcher.idle

    run(main)
    assert network.batches == [[1], [1]]


def test_clients_take_turns(batcher: Predictions, network: Doubler) -> None:
    async def main() -> None:
        network.go.clear()
        first = submit(batcher, 0)
        await network.until_begun()
        greedy = [submit(batcher, value, client="greedy") for value in range(1, 4)]
        modest = submit(batcher, 4, 4, client="modest")
        network.go.set()
        await modest
        assert [each.done() for each in greedy] == [True, True, False]
        await asyncio.gather(first, *greedy)

    run(main)
    assert network.batches == [[1], [1, 2, 1], [1]]


@pytest.mark.parametrize(("seconds", "most"), [(2 * AHEAD_SECONDS, 1), (AHEAD_SECONDS / 2, 2), (SLOW, 4)])
def test_the_slower_batches_are_the_fewer_are_under_way(seconds: float, most: int, network: Doubler) -> None:
    queue = DeviceQueue("slow", workers=5)
    batcher = Predictions(network, queue, max_rows=1, expected_seconds=lambda _: seconds)

    async def main() -> None:
        network.go.clear()
        futures = [submit(batcher, value) for value in range(4)]
        for _ in range(most):
            await network.until_begun()
        assert await queue.submit(lambda: len(network.batches)) == most
        network.go.set()
        await asyncio.gather(*futures)

    run(main)
    queue.close()


def test_what_can_start_need_not_wait_for_the_next_turn_of_the_loop(batcher: Predictions, network: Doubler) -> None:
    async def main() -> None:
        futures = [submit(batcher, value) for value in range(10)]
        assert batcher.waiting == 10
        batcher.start()
        assert batcher.waiting == 2, "two batches are full"
        await asyncio.gather(*futures)

    run(main)
    assert network.batches == [[1] * 4, [1] * 4, [1] * 2]


def test_who_waits_for_company_goes_when_it_is_there(network: Doubler, queue: DeviceQueue) -> None:
    batcher = Predictions(network, queue, max_rows=4, expected_seconds=lambda _: 0.0, max_delay=10 * WAIT)
    assert not batcher.at_hand(2)

    async def main() -> None:
        futures = [submit(batcher, 1, 2)]
        for _ in range(3):
            await asyncio.sleep(0)
        assert await queue.submit(lambda: network.batches == [])
        futures.append(submit(batcher, 3, 4))
        assert [(await each)["y"].tolist() for each in futures] == [[2, 4], [6, 8]]

    run(main)
    assert network.batches == [[2, 2]]


def test_who_finds_no_company_goes_alone(network: Doubler, queue: DeviceQueue) -> None:
    batcher = Predictions(network, queue, max_rows=4, expected_seconds=lambda _: 0.0, max_delay=0.02)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(2):
            start = loop.time()
            given_up = submit(batcher, 0)
            kept = submit(batcher, 1)
            given_up.cancel()
            assert (await kept)["y"].tolist() == [2]
            assert loop.time() - start >= 0.015  # loops round their clocks
        assert batcher.idle

    run(main)
    assert network.batches == [[1]] * 2


def test_there_may_be_less_room_than_usual(network: Doubler, queue: DeviceQueue) -> None:
    asked: list[int] = []

    def room(rows: int) -> int:
        asked.append(rows)
        return 2

    batcher = Predictions(network, queue, max_rows=8, expected_seconds=lambda _: SLOW, room=room)

    async def main() -> None:
        await asyncio.gather(*(submit(batcher, value) for value in range(5)))

    run(main)
    assert network.batches == [[1, 1], [1, 1], [1]]
    assert asked == [5, 3], "who is alone needs no room"


def test_when_the_device_has_stopped(network: Doubler) -> None:
    queue = DeviceQueue("stopped")
    queue.close()
    batcher = Predictions(network, queue, max_rows=4, expected_seconds=lambda _: 0.0)

    async def main() -> None:
        answers = await asyncio.gather(submit(batcher, 1), submit(batcher, 2), return_exceptions=True)
        assert [type(answer) for answer in answers] == [UnavailableError] * 2

    run(main)
    assert network.batches == []


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 3)), max_size=30), st.sampled_from([0.0, SLOW]))
def test_every_answer_is_its_callers(calls: list[tuple[int, int]], seconds: float) -> None:
    network, queue = Doubler(), DeviceQueue("any", workers=2)
    batcher = Predictions(network, queue, max_rows=6, expected_seconds=lambda _: seconds)

    async def call(number: int, rows: int) -> None:
        x = np.arange(rows) + 100.0 * number
        answer = await batcher.submit({"x": x}, rows, StageClock(), client=number % 3)
        assert answer["y"].tolist() == (2 * x).tolist()

    async def main() -> None:
        tasks = []
        for number, (rows, count) in enumerate(calls):
            tasks.append(asyncio.create_task(call(number, rows)))
            await turns(count)
        await asyncio.gather(*tasks)

    run(main)
    queue.close()
    assert sum(sum(batch) for batch in network.batches) == sum(rows for rows, _ in calls)
    assert max((sum(batch) for batch in network.batches), default=0) <= 6
