from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo

import fluoroscope
from fluoroscope.calls.status import ERRORS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.client.conftest import Face
    from tests.client.fake_server import FakeServer

X = np.zeros((1, 2, 2, 1), np.float32)
OPERATIONS: dict[str, tuple[Any, ...]] = {
    "predict": ("digits", {"image": X}),
    "sites": ("digits",),
    "models": (),
    "model": ("digits",),
}


def failing(face: Face, operation: str = "predict") -> fluoroscope.FluoroscopeError:
    with pytest.raises(fluoroscope.FluoroscopeError) as caught:
        face.call(operation, *OPERATIONS[operation])
    return caught.value


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_status_has_its_error(face: Face, server: FakeServer, code: grpc.StatusCode) -> None:
    server.fail(code, "the server's own words", ErrorInfo(reason="A_REASON"))
    error = failing(face)

    assert type(error) is ERRORS.get(code, fluoroscope.ServerError)
    assert "the server's own words" in error.message
    assert error.reason == "A_REASON"
    assert error.__cause__ is not None


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_fails_in_the_same_way(face: Face, server: FakeServer, operation: str) -> None:
    server.fail(grpc.StatusCode.NOT_FOUND, "there is no model 'digits'; did you mean 'digit'?")

    assert type(failing(face, operation)) is fluoroscope.NotFoundError


def test_a_refused_stream_says_no_more_than_the_server(face: Face, server: FakeServer) -> None:
    server.fail(
        grpc.StatusCode.FAILED_PRECONDITION, "loop/x is inside a while loop", ErrorInfo(reason="NOT_CAPTURABLE")
    )

    with pytest.raises(fluoroscope.NotCapturableError) as caught:
        face.call("inspect", "digits", {"image": X}, sites="loop/x")
    assert str(caught.value) == "loop/x is inside a while loop"


def test_the_details_are_attributes(face: Face, server: FakeServer) -> None:
    server.fail(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "the queue is full: 64 wait",
        ErrorInfo(reason="QUEUE_FULL", metadata={"request_id": "7c1e"}),
        BadRequest(field_violations=[BadRequest.FieldViolation(field='inputs["image"].shape')]),
        RetryInfo(retry_delay=Duration(nanos=250_000_000)),
    )
    error = failing(face)

    assert (error.reason, error.field, error.retry_after) == ("QUEUE_FULL", 'inputs["image"].shape', 0.25)
    assert error.request_id == "7c1e"


def test_without_details_the_reason_is_the_status(face: Face, server: FakeServer) -> None:
    server.fail(grpc.StatusCode.INVALID_ARGUMENT, "bad shape")
    error = failing(face)

    assert (error.reason, error.field, error.retry_after, error.request_id) == ("INVALID_ARGUMENT", None, None, None)


def test_the_id_of_a_server_error_is_in_the_message(face: Face, server: FakeServer) -> None:
    info = ErrorInfo(reason="INTERNAL", metadata={"error_id": "5f3a"})
    server.fail(grpc.StatusCode.INTERNAL, "something went wrong", info)

    assert str(failing(face)) == (
        f"the server at {server.target} failed (INTERNAL): something went wrong "
        "(error id 5f3a; the server's log has the cause)"
    )


@pytest.mark.parametrize(
    ("code", "next_step"),
    [
        (grpc.StatusCode.DEADLINE_EXCEEDED, "longer timeout="),
        (grpc.StatusCode.UNAUTHENTICATED, "Give token="),
        (grpc.StatusCode.PERMISSION_DENIED, "Ask the server's operator"),
        (grpc.StatusCode.UNIMPLEMENTED, "another kind of server"),
    ],
)
def test_the_message_says_what_to_do_next(
    face: Face, server: FakeServer, code: grpc.StatusCode, next_step: str
) -> None:
    server.fail(code, "no")

    assert next_step in str(failing(face))


def test_unavailable_by_a_server_is_no_failed_connection(face: Face, server: FakeServer) -> None:
    server.fail(grpc.StatusCode.UNAVAILABLE, "the server drains", ErrorInfo(reason="DRAINING"))

    assert type(failing(face)) is fluoroscope.ServerUnavailableError


def test_details_of_another_status_are_left_alone(face: Face, server: FakeServer) -> None:
    def proxied(context: grpc.ServicerContext) -> None:
        context.set_trailing_metadata((("grpc-status-details-bin", b"\x08\x05\x12\x05other"),))
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the proxy's words")

    server.failure = proxied
    error = failing(face)

    assert (type(error), str(error)) == (fluoroscope.InvalidRequestError, "the proxy's words")


def test_a_deadline(connect: Callable[..., Face], server: FakeServer) -> None:
    server.failure = lambda context: context.abort(grpc.StatusCode.INTERNAL, "late") if _wait(context) else None

    with pytest.raises(fluoroscope.DeadlineExceededError, match=r"timeout="):
        connect(server.target, timeout=0.2).call("predict", "digits", {"image": X})


def _wait(context: grpc.ServicerContext) -> bool:
    """Waits until the caller has gone."""
    import threading

    gone = threading.Event()
    return context.add_callback(gone.set) and gone.wait(10)
