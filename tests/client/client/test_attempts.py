"""Attempts: which calls are made again, when, and which never."""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from hypothesis import given
from hypothesis import strategies as st

import fluoroscope
from fluoroscope.calls import Exchange
from fluoroscope.client.attempts import FIRST_PAUSE, LONGEST_PAUSE, Attempts, check_timeout

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.client.conftest import Face
    from tests.client.fake_server import FakeServer

X = np.array([[1, -2, 3, 0], [0.5, 4, -1, 2]], np.float32).reshape(2, 2, 2, 1)
UNAVAILABLE, EXHAUSTED = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED
PUSHBACK = "grpc-retry-pushback-ms"


class Failed(grpc.RpcError):
    """A call that failed."""

    def __init__(self, code: grpc.StatusCode, *metadata: tuple[str, str | bytes]) -> None:
        self._code = code
        self._metadata: Any = metadata

    def code(self) -> grpc.StatusCode:
        return self._code

    def trailing_metadata(self) -> Any:
        return self._metadata


class Clock:
    """A clock that stands still until a test sets it."""

    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def attempts(
    *, timeout: float = 60.0, retries: int = 3, repeatable: bool = True, clock: Clock | None = None
) -> Attempts:
    exchange = Exchange(method="/m", request=b"", repeatable=repeatable)
    return Attempts(
        exchange, timeout=timeout, retries=retries, metadata=(), clock=clock or Clock(), spread=lambda _, most: most
    )


# --- which


@pytest.mark.parametrize("code", list(grpc.StatusCode))
def test_only_what_may_pass_is_tried_again(code: grpc.StatusCode) -> None:
    assert (attempts().pause(Failed(code)) is not None) == (code is UNAVAILABLE)


@pytest.mark.parametrize(
    ("code", "pushback", "again"),
    [
        (EXHAUSTED, "0", True),
        (EXHAUSTED, "250", True),
        (EXHAUSTED, "-1", False),
        (EXHAUSTED, "soon", False),
        (EXHAUSTED, "", False),
        (EXHAUSTED, "1e3", False),
        (EXHAUSTED, "٣", False),
        (UNAVAILABLE, "250", True),
        (UNAVAILABLE, "-1", False),
        (UNAVAILABLE, "soon", False),
        (grpc.StatusCode.INTERNAL, "250", False),
    ],
)
def test_the_server_says_whether_and_when(code: grpc.StatusCode, pushback: str, again: bool) -> None:
    pause = attempts().pause(Failed(code, ("other", "1"), (PUSHBACK, pushback)))
    assert (pause is not None) == again
    if pause is not None:
        assert pause == pytest.approx(int(pushback) / 1000 * 1.1)


def test_what_changes_something_is_never_tried_again() -> None:
    assert not Exchange(method="/m", request=b"").repeatable, "unless its author says otherwise"
    assert attempts(repeatable=False).pause(Failed(UNAVAILABLE)) is None


def test_what_has_begun_to_answer_is_not_tried_again() -> None:
    begun = attempts()
    begun.answering = True
    assert begun.pause(Failed(UNAVAILABLE)) is None


# --- how often, and when


ROUNDING = 1e-6
"""By how many seconds a clock that adds up may be wrong."""


@given(st.integers(0, 30), st.floats(0.001, 1000.0), st.data())
def test_attempts_are_bounded_by_number_and_by_time(retries: int, timeout: float, data: st.DataObject) -> None:
    clock = Clock()
    exchange = Exchange(method="/m", request=b"", repeatable=True)
    tried = Attempts(exchange, timeout=timeout, retries=retries, metadata=(), clock=clock)
    pauses: list[float] = []
    left = timeout
    while True:
        terms = tried.terms()
        assert terms["timeout"] == pytest.approx(left, abs=ROUNDING)
        took = data.draw(st.floats(0, left))
        clock.seconds += took
        left -= took
        pause = tried.pause(Failed(UNAVAILABLE))
        if pause is None:
            break
        assert 0 < pause < left + ROUNDING
        number = len(pauses)
        most = min(FIRST_PAUSE * 2**number, LONGEST_PAUSE)
        assert most / 2 <= pause <= most
        pauses.append(pause)
        clock.seconds += pause
        left = max(0.0, left - pause)
        assert len(pauses) <= retries


@pytest.mark.parametrize("timeout", [5, np.float32(5), np.float16(5)])
def test_seconds_are_as_exact_as_the_clock(timeout: float) -> None:
    """Numbers of NumPy may have so few digits that a sum with the time of a machine loses seconds."""
    clock = Clock()
    clock.seconds = 1e9 + 0.25
    assert attempts(timeout=timeout, clock=clock).terms()["timeout"] == pytest.approx(5.0, abs=1e-6)


@pytest.mark.parametrize("timeout", [math.inf, 10**400])
def test_as_long_as_it_takes(timeout: float) -> None:
    check_timeout(timeout)
    endless = attempts(timeout=timeout)
    assert endless.terms()["timeout"] is None
    assert endless.pause(Failed(UNAVAILABLE)) == FIRST_PAUSE


def test_a_pause_that_the_time_has_no_room_for_is_not_made() -> None:
    assert attempts(timeout=1.0).pause(Failed(EXHAUSTED, (PUSHBACK, "1000"))) is None


# --- against a server


def failing(server: FakeServer, code: grpc.StatusCode, *, times: int, pushback: str | None = None) -> None:
    """Lets so many calls fail at their beginning, and those that follow succeed."""
    left = iter(range(times))

    def fail(context: grpc.ServicerContext) -> None:
        if next(left, None) is not None:
            if pushback is not None:
                context.set_trailing_metadata(((PUSHBACK, pushback),))
            context.abort(code, "not now")

    server.failure = fail


def test_a_call_succeeds_at_last(face: Face, server: FakeServer) -> None:
    failing(server, UNAVAILABLE, times=3)
    assert list(face.call("predict", "digits", {"image": X})) == ["logits"]
    assert len(server.requests) == 4
    assert len({request.SerializeToString() for request in server.requests}) == 1


def test_a_call_fails_at_last(face: Face, server: FakeServer) -> None:
    failing(server, UNAVAILABLE, times=100)
    with pytest.raises(fluoroscope.ServerUnavailableError, match="not now"):
        face.call("predict", "digits", {"image": X})
    assert len(server.requests) == 4


def test_no_retries(connect: Callable[..., Face], server: FakeServer) -> None:
    failing(server, UNAVAILABLE, times=1)
    with pytest.raises(fluoroscope.ServerUnavailableError):
        connect(server.target, timeout=20, retries=0).call("models")
    assert len(server.requests) == 1


@pytest.mark.parametrize(("pushback", "calls"), [("1", 2), (None, 1), ("-1", 1)])
def test_a_busy_server_is_asked_again_if_it_says_when(
    face: Face, server: FakeServer, pushback: str | None, calls: int
) -> None:
    failing(server, EXHAUSTED, times=1, pushback=pushback)
    if calls == 1:
        with pytest.raises(fluoroscope.LimitExceededError, match="not now"):
            face.call("sites", "digits")
    else:
        assert len(face.call("sites", "digits")) == 4
    assert len(server.requests) == calls


def test_a_stream_that_has_not_begun_is_asked_for_again(face: Face, server: FakeServer) -> None:
    failing(server, UNAVAILABLE, times=2)
    found = face.take(None, "digits", {"image": X}, sites="**")
    assert [each.site for each in found] == ["Dense_0", "Dense_0/relu:0", "head"]
    assert len(server.requests) == 3


def test_a_stream_that_has_begun_says_what_had_come(face: Face, server: FakeServer) -> None:
    server.fail_late = True
    server.fail(UNAVAILABLE, "the server drains", ErrorInfo(reason="DRAINING"))
    server.break_stream = lambda messages: [*messages[:6], messages[-1]]  # the header, four chunks, and one more

    with pytest.raises(fluoroscope.ServerUnavailableError, match=r"8 of its 16 bytes had come") as caught:
        face.call("inspect", "digits", {"image": X}, sites="**")
    assert caught.value.arrived == fluoroscope.Arrived(
        complete=("Dense_0",),
        partial="Dense_0/relu:0",
        partial_bytes=8,
        partial_size=16,
        missing=("head",),
        where="site 'Dense_0/relu:0' (result 1)",
    )
    assert len(server.requests) == 1


def test_a_deadline_holds_for_all_attempts_together(connect: Callable[..., Face], server: FakeServer) -> None:
    failing(server, EXHAUSTED, times=100, pushback="400")
    with pytest.raises(fluoroscope.LimitExceededError):
        connect(server.target, timeout=1.0, retries=50).call("models")
    assert len(server.requests) <= 3


def test_each_kind_of_call_has_a_time_of_its_own(connect: Callable[..., Face], server: FakeServer) -> None:
    given: list[float] = []
    server.failure = lambda context: given.append(context.time_remaining() or math.inf)
    face = connect(server.target)
    face.call("models")
    face.call("model", "digits")
    face.call("sites", "digits")
    face.call("predict", "digits", {"image": X})
    face.call("plan", "digits", 1, sites="**")
    face.call("plan", "digits", 1, sites="**", compile=True)
    face.call("load_model", "digits")
    face.call("unload_model", "digits")
    face.call("inspect", "digits", {"image": X}, sites="**")
    assert given == pytest.approx([60, 60, 60, 60, 60, 600, 600, 600, 600, 600], abs=20)  # a stream is looked at twice


def serve_models(port: int) -> tuple[grpc.Server, int]:
    """A server that has no models, on a port of choice."""
    listed: Any = grpc.unary_unary_rpc_method_handler(lambda _request, _context: b"")
    server = grpc.server(ThreadPoolExecutor(max_workers=1), options=[("grpc.so_reuseport", 0)])
    service = grpc.method_handlers_generic_handler("fluoroscope.v1.ModelService", {"ListModels": listed})
    server.add_generic_rpc_handlers([service])
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server, bound


def test_a_server_that_restarts_is_found_again(connect: Callable[..., Face]) -> None:
    first, port = serve_models(0)
    face = connect(f"127.0.0.1:{port}", timeout=20, retries=20)
    impatient = connect(f"127.0.0.1:{port}", timeout=20, retries=0)
    assert face.call("models") == []
    first.stop(None).wait(10)
    with pytest.raises(fluoroscope.ConnectionFailedError):
        impatient.call("models")

    started: list[grpc.Server] = []
    restart = threading.Timer(0.3, lambda: started.append(serve_models(port)[0]))
    restart.start()
    assert face.call("models") == []
    restart.join()
    started[0].stop(None).wait(10)
