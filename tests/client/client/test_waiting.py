"""Waiting for a server: how often it is asked, what ends it, and what it says that it last heard."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import fluoroscope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.client.conftest import Face

READY, NOT_READY, UNKNOWN = (
    health_pb2.HealthCheckResponse(status=status)
    for status in (
        health_pb2.HealthCheckResponse.SERVING,
        health_pb2.HealthCheckResponse.NOT_SERVING,
        health_pb2.HealthCheckResponse.SERVICE_UNKNOWN,
    )
)


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # ships no types
    """Tells each watch what a test says: answers, then how it ends. None means that it does not."""

    def __init__(self) -> None:
        self.watches: list[tuple[list[Any], grpc.StatusCode | None]] = []
        """What the next ones are told; the last is told to all that follow."""
        self.asked: list[str] = []
        """What was watched."""
        self.told = threading.Event()
        """Set when a watch has been told all that it will be, and stays open."""
        self.target = ""
        """The address to call."""

    def Watch(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802  # the contract's name
        self.asked.append(request.service)
        answers, end = self.watches[min(len(self.asked), len(self.watches)) - 1]
        yield from answers
        if end is None:
            gone = threading.Event()
            context.add_callback(gone.set)
            self.told.set()
            gone.wait(20)
        elif end is not grpc.StatusCode.OK:
            context.abort(end, "for a test")


@pytest.fixture
def health() -> Iterator[Health]:
    """A server that tells its health, and nothing else."""
    states = Health()
    running = grpc.server(ThreadPoolExecutor(max_workers=4))
    health_pb2_grpc.add_HealthServicer_to_server(states, running)
    states.target = f"127.0.0.1:{running.add_insecure_port('127.0.0.1:0')}"
    running.start()
    yield states
    running.stop(None).wait(10)


def test_it_waits_for_the_server_to_say_so(connect: Callable[..., Face], health: Health) -> None:
    health.watches = [([UNKNOWN, NOT_READY, READY], None)]
    connect(health.target).call("wait_ready", timeout=20)
    connect(health.target).call("wait_ready", "digits", timeout=20)
    assert health.asked == ["", "digits"]


def test_a_watch_that_ends_too_early_is_made_again(connect: Callable[..., Face], health: Health) -> None:
    """More often than other calls are: one who waits wants no count of attempts."""
    codes = grpc.StatusCode
    ends = (codes.OK, codes.UNAVAILABLE, codes.CANCELLED, codes.INTERNAL, codes.RESOURCE_EXHAUSTED)
    health.watches = [*(([NOT_READY], end) for end in ends), ([READY], None)]
    start = time.monotonic()
    connect(health.target, retries=0).call("wait_ready", timeout=60)
    assert len(health.asked) == len(ends) + 1
    assert time.monotonic() - start > 0.05 * (2 ** len(ends) - 1), "each pause is about twice the last"


@pytest.mark.parametrize(
    "code",
    [grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INVALID_ARGUMENT],
)
def test_what_waiting_cannot_mend_ends_it(connect: Callable[..., Face], health: Health, code: grpc.StatusCode) -> None:
    health.watches = [([], code)]
    with pytest.raises(fluoroscope.FluoroscopeError, match="for a test") as ended:
        connect(health.target).call("wait_ready", timeout=60)
    assert (ended.value.reason, len(health.asked)) == (code.name, 1)


def test_another_kind_of_server_is_told_apart(face: Face) -> None:
    with pytest.raises(fluoroscope.ServerError, match=r"UNIMPLEMENTED.*another kind of server"):
        face.call("wait_ready")


@pytest.mark.parametrize(
    ("answers", "end", "heard"),
    [
        ([NOT_READY], None, r"it was not ready when last heard of; give a longer timeout="),
        ([UNKNOWN], None, r"the server does not know it; models\(\) lists those that it has"),
        ([], grpc.StatusCode.OK, "the server stopped telling its health .*, as one that drains does"),
        ([], grpc.StatusCode.INTERNAL, r"the server at .* failed \(INTERNAL\): for a test"),
    ],
)
def test_what_was_last_heard_is_told(
    connect: Callable[..., Face], health: Health, answers: list[Any], end: grpc.StatusCode | None, heard: str
) -> None:
    health.watches = [(answers, end)]
    said = f"model 'digits' of the server at {health.target} was not ready in time: {heard}"
    with pytest.raises(fluoroscope.DeadlineExceededError, match=said):
        connect(health.target).call("wait_ready", "digits", timeout=0.5)


def test_that_nobody_answered_is_told(connect: Callable[..., Face]) -> None:
    said = r"^the server at 127\.0\.0\.1:1 was not ready in time: no connection came about; is a server there\?"
    with pytest.raises(fluoroscope.DeadlineExceededError, match=said) as ended:
        connect("127.0.0.1:1").call("wait_ready", timeout=0.2)
    assert ended.value.reason == "DEADLINE_EXCEEDED"


def test_closing_ends_it(health: Health) -> None:
    health.watches = [([NOT_READY], None)]
    client = fluoroscope.Client(health.target)
    with ThreadPoolExecutor(1) as thread:
        waits = thread.submit(client.wait_ready, timeout=60)
        assert health.told.wait(10)
        client.close()
        with pytest.raises(fluoroscope.CallCancelledError):
            waits.result(10)

    async def main() -> None:
        client = fluoroscope.AsyncClient(health.target)
        waits = asyncio.ensure_future(client.wait_ready(timeout=60))
        assert await asyncio.to_thread(health.told.wait, 10)
        await client.close()
        with pytest.raises(fluoroscope.CallCancelledError):
            await waits

    health.told.clear()
    asyncio.run(main())
