"""Small jobs: they look out for each other, and are computed right where they come in."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fluoroscope_server.serving import StageClock
from fluoroscope_server.serving.batcher import PATIENCE, QUICK_SECONDS, SMALL_SECONDS

from .doubler import POISON, WAIT, Predictions, run, submit, turns

if TYPE_CHECKING:
    from fluoroscope_server.serving import DeviceQueue

    from .doubler import Doubler


@pytest.fixture
def quick(network: Doubler, queue: DeviceQueue) -> Predictions:
    """Joins up to four rows; all of its work is quick."""
    return Predictions(network, queue, max_rows=4, expected_seconds=lambda _: 0.0)


def test_who_is_alone_is_served_right_here(quick: Predictions, network: Doubler) -> None:
    async def main() -> None:
        assert quick.at_hand(1)
        assert quick.answer({"x": np.array([1.0])}, 1, StageClock())["y"].tolist() == [2]

    run(main)
    assert network.threads == [threading.get_ident()]


def test_what_takes_long_is_not_at_hand(network: Doubler, queue: DeviceQueue) -> None:
    batcher = Predictions(network, queue, max_rows=4, expected_seconds=lambda rows: rows * QUICK_SECONDS / 2)
    assert batcher.at_hand(2)
    assert not batcher.at_hand(3)


def test_nothing_is_at_hand_while_others_are_served(quick: Predictions, queue: DeviceQueue) -> None:
    async def main() -> None:
        waiting = submit(quick, 1)
        assert not quick.at_hand(1)
        await waiting
        assert quick.at_hand(1)

        go = threading.Event()
        other = queue.submit(lambda: go.wait(WAIT))  # of another model, or an inspection
        assert not quick.at_hand(1)
        go.set()
        await other
        assert quick.at_hand(1)

    run(main)


def test_small_jobs_look_out_for_others_and_are_computed_right_here(quick: Predictions, network: Doubler) -> None:
    async def main() -> None:
        futures = [submit(quick, 1)]
        await turns(PATIENCE // 2)
        futures.append(submit(quick, 2))  # as gRPC brings them: one by one
        await turns(PATIENCE // 2)
        assert network.batches == []
        await turns(PATIENCE)
        assert network.batches == [[1, 1]]
        assert [(await each)["y"].tolist() for each in futures] == [[2], [4]]

    run(main)
    assert network.threads == [threading.get_ident()]


def test_a_full_batch_looks_out_for_nobody(quick: Predictions, network: Doubler) -> None:
    async def main() -> None:
        futures = [submit(quick, 1, 2), submit(quick, 3, 4)]
        await turns(2)
        assert network.batches == [[2, 2]]
        await asyncio.gather(*futures)

    run(main)


def test_between_batches_that_are_computed_here_the_loop_has_its_turn(quick: Predictions, network: Doubler) -> None:
    async def main() -> None:
        futures = [submit(quick, value) for value in range(12)]
        seen = []
        for _ in range(WAIT):
            await asyncio.sleep(0)
            seen.append(len(network.batches))
        assert [count for count in (1, 2, 3) if count in seen] == [1, 2, 3], "one at a time"
        await asyncio.gather(*futures)

    run(main)
    assert network.batches == [[1] * 4] * 3


def test_jobs_that_take_long_alone_leave_the_loop_free(network: Doubler, queue: DeviceQueue) -> None:
    """Though together they would be quick: what the device does meanwhile would be missed."""
    batcher = Predictions(network, queue, max_rows=4, expected_seconds=lambda _: 2 * SMALL_SECONDS)

    async def main() -> None:
        await asyncio.gather(submit(batcher, 1), submit(batcher, 2))

    run(main)
    assert network.batches == [[1, 1]]
    assert network.threads != [threading.get_ident()]


def test_an_error_of_what_is_computed_here_is_only_of_those_who_cause_it(quick: Predictions, network: Doubler) -> None:
    async def main() -> None:
        futures = [submit(quick, 1), submit(quick, POISON), submit(quick, 2)]
        answers = await asyncio.gather(*futures, return_exceptions=True)
        assert isinstance(answers[1], ValueError)
        assert [each["y"].tolist() for each in answers if not isinstance(each, BaseException)] == [[2], [4]]
        with pytest.raises(ValueError, match="poisoned"):
            quick.answer({"x": np.array([POISON])}, 1, StageClock())

    run(main)
    assert network.batches == [[1, 1, 1], [1], [1], [1], [1]]
