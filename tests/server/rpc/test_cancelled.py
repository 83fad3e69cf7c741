"""Clients that cancel, at every stage of a call: nothing of it is left, and no neighbour notices.

What is cancelled while much is being sent is in the end-to-end tests of memory.
"""

from __future__ import annotations

import asyncio
import gc
import math
import threading
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np

from fluoroscope.v1 import inference_pb2, inspection_pb2
from fluoroscope.wire import decode_tensor
from fluoroscope_server.engine import engine as engine_module
from fluoroscope_server.serving.answer import Answer
from fluoroscope_server.serving.batcher import Job
from fluoroscope_server.serving.joined_inspections import AskedInspection
from fluoroscope_server.serving.turns import Turn

from .test_limits import INSPECT, WAIT, answer, inspect_request, run, to_its_end

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from fluoroscope_server.serving import Servable

    from .test_limits import Served

HELD = (Job, Answer, AskedInspection)
"""What holds the inputs and the results of a call."""


class Gate:
    """Lets calls of a function begin, and go on when it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> None:
        """Takes what is gated: a module or class, and the name of the function in it."""
        self._begun = threading.Event()
        self.go = threading.Event()
        function = getattr(owner, name)

        def gated(*arguments: Any, **more: Any) -> Any:
            self._begun.set()
            assert self.go.wait(WAIT)
            return function(*arguments, **more)

        monkeypatch.setattr(owner, name, gated)

    async def begun(self) -> None:
        assert await asyncio.to_thread(self._begun.wait, WAIT)


def on_the_devices_threads(monkeypatch: pytest.MonkeyPatch, servable: Servable) -> None:
    """Lets nothing be quick enough to be computed on the loop, which a gate would hold up."""
    for bucket in servable.engine.buckets:
        monkeypatch.setitem(servable.engine.seconds, bucket, math.inf)


def alike(*messages: bytes) -> None:
    """Asserts that these answers are the same, but for how the compiler sums in batches of another size."""
    found = [inference_pb2.PredictResponse.FromString(each).outputs["logits"] for each in messages]
    for each in found:
        np.testing.assert_allclose(decode_tensor(each), decode_tensor(found[0]), rtol=1e-5, atol=1e-6)


async def until(happened: Callable[[], bool]) -> None:
    while not happened():  # noqa: ASYNC110 (a gauge has no event to wait for)
        await asyncio.sleep(0.001)


async def cancelled(*calls: Any) -> None:
    """Cancels calls that are under way, and waits until the client knows."""
    for each in calls:
        each.cancel()
    for each in calls:
        assert await each.code() is grpc.StatusCode.CANCELLED


def held() -> set[str]:
    """Returns the kinds of things of calls that are in memory."""
    gc.collect()
    return {type(each).__name__ for each in gc.get_objects() if isinstance(each, HELD)}


async def at_rest(served: Served) -> None:
    """Waits until no call is under way; then nothing may be left of any, and the next is answered."""
    servable, value = served.servable, served.metrics.registry.get_sample_value
    await until(lambda: served.in_flight() == served.in_flight(INSPECT) == 0)
    await servable.device.submit(lambda: None)  # what was begun has ended
    await until(lambda: servable.batcher.idle)
    assert servable.batcher.waiting == 0
    assert value("fluoroscope_clients") == value("fluoroscope_open_request_bytes") == 0
    assert held() == set()
    await served.predict()
    assert await to_its_end(served.inspect("Dense_0")) >= 3


def test_before_it_is_let_in(servable: Servable) -> None:
    async def test(served: Served) -> None:
        given_up = [call for _ in range(20) for call in (served.predict(), served.inspect("Dense_0"))]
        kept = [asyncio.ensure_future(answer(served.predict())) for _ in range(5)]
        await cancelled(*given_up)
        alike(*await asyncio.gather(*kept))
        await at_rest(served)

    run(servable, test)


def test_in_the_queue(servable: Servable) -> None:
    async def test(served: Served) -> None:
        right = await served.predict()
        async with served.busy():
            first = asyncio.ensure_future(answer(served.predict(4)))
            await served.waiting(0)
            given_up = [served.predict() for _ in range(3)]
            kept = asyncio.ensure_future(answer(served.predict()))
            streams = [served.inspect("Dense_0") for _ in range(3)]
            for each in streams:
                assert await anext(aiter(each)), "its header has come, and its value waits for the device"
            await served.waiting(4)
            assert held() == {"Job", "Answer", "AskedInspection"}
            await cancelled(*given_up, *streams[:2])
            await served.waiting(1)  # room for others at once, while the device is busy
            await until(lambda: served.in_flight(INSPECT) == 1)
        alike(await kept, right)
        await first
        assert await to_its_end(streams[2]) >= 2
        await at_rest(served)

    run(servable, test)


def test_while_it_is_compiled(servable: Servable, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(served: Served) -> None:
        with monkeypatch.context() as patch:
            gate = Gate(patch, engine_module, "compile_program")
            # The first is being compiled, another waits for the same program, and a third for the compiler.
            calls = [served.inspect("Dense_1", "relu:0") for _ in range(2)]
            await gate.begun()
            kept = asyncio.ensure_future(to_its_end(calls[1]))
            calls.append(served.inspect("Dense_2", "relu:0"))
            await until(lambda: served.in_flight(INSPECT) == 3)
            await cancelled(calls[0], calls[2])
            await until(lambda: served.in_flight(INSPECT) == 1)
            await served.predict()
            gate.go.set()
            assert await kept >= 4
        await at_rest(served)

    run(servable, test)


def test_while_a_prediction_is_computed(servable: Servable, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(served: Served) -> None:
        right = await served.predict()
        with monkeypatch.context() as patch:
            gate = Gate(patch, type(servable.engine), "predict")
            on_the_devices_threads(patch, servable)
            async with served.busy():  # so that those who come now go together
                first = asyncio.ensure_future(answer(served.predict(4)))
                await served.waiting(0)
                calls = [served.predict() for _ in range(3)]
                await served.waiting(3)
            await gate.begun()
            kept = asyncio.ensure_future(answer(calls[1]))
            await cancelled(calls[0], calls[2])
            await until(lambda: served.in_flight() == 2)
            gate.go.set()
            alike(await kept, right)
            await first
        await at_rest(served)

    run(servable, test)


def test_all_who_are_computed_together_but_one(servable: Servable, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(served: Served) -> None:
        right = await served.predict()
        with monkeypatch.context() as patch:
            on_the_devices_threads(patch, servable)
            async with served.busy():
                calls = [served.predict() for _ in range(3)]
                await until(lambda: served.in_flight() == 3)
                gate = Gate(patch, type(servable.engine), "predict")
            await gate.begun()
            await cancelled(*calls[:2])
            await until(lambda: served.in_flight() == 1)
            gate.go.set()
            alike(await calls[2], right)
        await at_rest(served)

    run(servable, test)


def test_while_an_inspection_is_computed(servable: Servable, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(served: Served) -> None:
        assert await to_its_end(served.inspect("Dense_0")) >= 3  # compiles
        with monkeypatch.context() as patch:
            gate = Gate(patch, type(servable.engine), "run")
            computing, queued, kept = (served.inspect("Dense_0") for _ in range(3))
            for each in (computing, queued, kept):
                assert await anext(aiter(each))
            await gate.begun()
            await cancelled(computing, queued)
            await until(lambda: served.in_flight(INSPECT) == 1)
            gate.go.set()
            assert await to_its_end(kept) >= 2
        await at_rest(served)

    run(servable, test)


def test_between_two_stages(servable: Servable, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(served: Served) -> None:
        go, begun = threading.Event(), 0
        next_stage = Answer._next_stage

        def held_up(whole: Answer) -> Any:
            nonlocal begun
            begun += 1
            if begun == 2:  # the device has something else to do before the second stage
                whole.device.submit(lambda: go.wait(WAIT), turn=Turn.INSPECTION, key=whole.key)
            return next_stage(whole)

        with monkeypatch.context() as patch:
            patch.setattr(Answer, "_next_stage", held_up)
            request = inspect_request("Dense_*", execution=inspection_pb2.EXECUTION_STAGED)
            call = served.channel.unary_stream(INSPECT)(request, timeout=WAIT)
            frames = aiter(call)
            kinds = [inspection_pb2.InspectActivationsResponse.FromString(await anext(frames)) for _ in range(2)]
            assert [each.WhichOneof("frame") for each in kinds] == ["header", "chunk"]
            assert kinds[0].header.program.stage_count == 3
            await until(lambda: begun == 2)
            await cancelled(call)
            await until(lambda: served.in_flight(INSPECT) == 0)
            go.set()
        await at_rest(served)
        assert begun == 2, "the third stage was never asked for"

    run(servable, test)
