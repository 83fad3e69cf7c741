"""The device queue: order, errors, work that is taken back, and nothing that outlives its turn."""

from __future__ import annotations

import asyncio
import functools
import gc
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from fluoroscope_server.serving.device_queue import DeviceQueue
from fluoroscope_server.serving.turns import Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

WAIT = 20


@pytest.fixture
def device() -> Iterator[DeviceQueue]:
    """A queue of its own for each test."""
    queue = DeviceQueue("device under test")
    yield queue
    queue.close()


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(main(), WAIT))


class Gate:
    """Work that holds the device until it is let go."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        assert self.go.wait(WAIT)
        return "gate"


class Large:
    """A result that can be seen to be let go."""


def test_work_is_done_in_order_on_one_thread_that_is_not_the_loops(device: DeviceQueue) -> None:
    threads: list[int] = []
    order: list[int] = []

    def work(index: int) -> int:
        threads.append(threading.get_ident())
        order.append(index)
        return index * 10

    async def main() -> None:
        futures = [device.submit(lambda index=index: work(index)) for index in range(50)]  # type: ignore[misc]  # mypy cannot infer a lambda with a default
        assert await asyncio.gather(*futures) == [index * 10 for index in range(50)]

    run(main)
    assert order == list(range(50))
    assert len(set(threads)) == 1
    assert threads[0] != threading.get_ident()


def test_the_loop_stays_free_while_the_device_works(device: DeviceQueue) -> None:
    async def main() -> None:
        gate = Gate()
        future = device.submit(gate)
        await asyncio.to_thread(gate.begun.wait, WAIT)
        assert not future.done()
        gate.go.set()
        assert await future == "gate"

    run(main)


def test_several_threads_begin_work_in_order_and_end_together() -> None:
    device = DeviceQueue("several", workers=2)

    async def main() -> None:
        first, second = Gate(), Gate()
        done: list[int] = []
        futures = [device.submit(first), device.submit(second)]
        last = device.submit(lambda: done.append(1))
        for gate in (first, second):
            await asyncio.to_thread(gate.begun.wait, WAIT)  # both are under way
        assert done == []
        second.go.set()
        await last
        assert not futures[0].done()
        first.go.set()
        assert await asyncio.gather(*futures) == ["gate", "gate"]

    run(main)
    device.close()


def test_a_prediction_that_waits_goes_before_inspections(device: DeviceQueue) -> None:
    async def main() -> None:
        gate, order = Gate(), []
        futures: list[asyncio.Future[Any]] = [device.submit(gate)]
        await asyncio.to_thread(gate.begun.wait, WAIT)
        for turn, key in [
            (Turn.INSPECTION, "a"),
            (Turn.INSPECTION, "a"),
            (Turn.INSPECTION, "b"),
            (Turn.PREDICTION, "p"),
        ]:
            futures.append(device.submit(lambda key=key: order.append(key), turn=turn, key=key))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
        gate.go.set()
        await asyncio.gather(*futures)
        assert order == ["p", "a", "b", "a"]

    run(main)


@pytest.mark.parametrize("closing", [False, True])
def test_inspections_leave_threads_to_predictions(closing: bool) -> None:
    """And those that were put off for that are done when the device is closed, too."""
    device, done = DeviceQueue("several", workers=8), []

    async def main() -> None:
        gates = [Gate() for _ in range(4)]
        inspections = [device.submit(gate, turn=Turn.INSPECTION) for gate in gates]
        for gate in gates[:2]:
            await asyncio.to_thread(gate.begun.wait, WAIT)
        assert await asyncio.gather(*(device.submit(lambda: "served") for _ in range(20))) == ["served"] * 20
        assert not any(gate.begun.is_set() for gate in gates[2:])
        if closing:
            done.append(asyncio.ensure_future(asyncio.to_thread(device.close)))
            await asyncio.sleep(0)
        for gate in gates:
            gate.go.set()
        assert await asyncio.gather(*inspections) == ["gate"] * 4
        await asyncio.gather(*done)

    run(main)
    device.close()


def test_inspections_have_threads_to_themselves() -> None:
    device = DeviceQueue("several", workers=8)
    threads: dict[Turn, set[int]] = {turn: set() for turn in Turn}

    async def main() -> None:
        work = [(turn, device.submit(threading.get_ident, turn=turn)) for turn in Turn for _ in range(50)]
        for turn, future in work:
            threads[turn].add(await future)

    run(main)
    device.close()
    assert len(threads[Turn.INSPECTION]) <= 2
    assert not threads[Turn.INSPECTION] & threads[Turn.PREDICTION]


def test_inspections_count_among_what_may_be_under_way() -> None:
    device = DeviceQueue("several", workers=2)

    async def main() -> None:
        inspection, first, second = Gate(), Gate(), Gate()
        futures = [device.submit(inspection, turn=Turn.INSPECTION), device.submit(first), device.submit(second)]
        for gate in (inspection, first):
            await asyncio.to_thread(gate.begun.wait, WAIT)
        assert not second.begun.wait(0.1)
        for gate in (inspection, first, second):
            gate.go.set()
        assert await asyncio.gather(*futures) == ["gate"] * 3

    run(main)
    device.close()


def test_it_is_idle_when_nothing_waits_or_is_under_way(device: DeviceQueue) -> None:
    found = []

    async def main() -> None:
        gate = Gate()
        found.append(device.idle)
        first, second = device.submit(gate), device.submit(lambda: None)
        found.append(device.idle)
        gate.go.set()
        await first
        await second
        found.append(device.idle)

    run(main)
    device.close()
    assert [*found, device.idle] == [True, False, True, False]


class Halt(BaseException):
    """Not even an Exception."""


@pytest.mark.parametrize("error", [ValueError("mine"), Halt("mine"), asyncio.CancelledError("mine")])
def test_an_error_is_its_callers_alone(error: BaseException, device: DeviceQueue) -> None:
    def fail() -> None:
        raise error

    async def main() -> None:
        before = device.submit(lambda: 1)
        failing = device.submit(fail)
        after = device.submit(lambda: 2)
        with pytest.raises(type(error), match="mine"):
            await failing
        assert (await before, await after) == (1, 2)
        assert await device.submit(lambda: 3) == 3

    run(main)


def test_work_that_was_taken_back_is_never_begun(device: DeviceQueue) -> None:
    async def main() -> None:
        gate, done = Gate(), []
        first = device.submit(gate)
        taken_back = [device.submit(lambda: done.append("never")) for _ in range(3)]
        last = device.submit(lambda: done.append("last"))
        await asyncio.to_thread(gate.begun.wait, WAIT)
        for future in taken_back:
            future.cancel()
        gate.go.set()
        assert await first == "gate"
        await last
        assert done == ["last"]
        assert device.idle

    run(main)


def test_a_caller_who_gives_up_while_it_is_served_hurts_nobody(device: DeviceQueue) -> None:
    async def main() -> None:
        gate = Gate()
        first, second = device.submit(gate), device.submit(lambda: 2)
        await asyncio.to_thread(gate.begun.wait, WAIT)
        first.cancel()
        gate.go.set()
        assert await second == 2
        assert first.cancelled()

    run(main)


def test_a_deadline_is_honoured_in_the_queue(device: DeviceQueue) -> None:
    async def main() -> None:
        gate, done = Gate(), []
        first = device.submit(gate)
        await asyncio.to_thread(gate.begun.wait, WAIT)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(device.submit(lambda: done.append("late")), 0.01)
        gate.go.set()
        await first
        await device.submit(lambda: None)
        assert done == []

    run(main)


def test_close_does_what_waits_first() -> None:
    device, done = DeviceQueue("closing"), []

    async def main() -> None:
        gate = Gate()
        first = device.submit(gate)
        rest = [device.submit(lambda: done.append(1)) for _ in range(3)]
        closing = asyncio.ensure_future(asyncio.to_thread(device.close))
        await asyncio.to_thread(gate.begun.wait, WAIT)
        assert not closing.done()
        gate.go.set()
        await closing
        await first
        await asyncio.gather(*rest)

    run(main)
    assert done == [1, 1, 1]
    device.close()  # again, for those who close twice


def test_a_loop_that_is_closed_meanwhile(device: DeviceQueue) -> None:
    """Whoever ran it has gone; the thread must live."""
    gate, done = Gate(), threading.Event()

    async def leave() -> None:
        device.submit(gate)
        device.submit(done.set)
        await asyncio.to_thread(gate.begun.wait, WAIT)

    run(leave)
    gate.go.set()
    assert done.wait(WAIT)

    async def main() -> None:
        assert await device.submit(lambda: "alive") == "alive"

    run(main)


def test_nothing_outlives_its_turn(device: DeviceQueue) -> None:
    """Neither the result nor what the work held: both may be gigabytes."""

    def another(_: Large) -> Large:
        return Large()

    async def main() -> None:
        await device.submit(lambda: None)  # the thread waits in its loop from here on
        held = Large()
        result = await device.submit(functools.partial(another, held))
        watched = [weakref.ref(held), weakref.ref(result)]
        del held, result
        await asyncio.sleep(0)
        gc.collect()
        assert [each() for each in watched] == [None, None]

    run(main)


def test_a_failure_is_not_kept_by_the_thread(device: DeviceQueue) -> None:
    async def main() -> None:
        held = Large()

        def fail(held: Large) -> None:
            raise ValueError(id(held))

        watched = weakref.ref(held)
        with pytest.raises(ValueError, match=r"\d+"):
            await device.submit(functools.partial(fail, held))
        del held
        await device.submit(lambda: None)
        gc.collect()
        assert watched() is None

    run(main)


@pytest.mark.parametrize("kind", [SystemExit, StopIteration])
def test_no_work_can_end_the_loop(device: DeviceQueue, kind: type[BaseException]) -> None:
    def work() -> None:
        raise kind("mine")

    async def main() -> None:
        with pytest.raises(RuntimeError, match=f"work for the device raised {kind.__name__}: mine"):
            await device.submit(work)
        assert await device.submit(lambda: 1) == 1

    run(main)
