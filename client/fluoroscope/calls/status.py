"""gRPC's statuses as errors: the one place where the one becomes the other."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status  # type: ignore[import-untyped]  # ships no types

from fluoroscope.calls.errors import (
    CallCancelledError,
    ConnectionFailedError,
    DeadlineExceededError,
    InvalidRequestError,
    LimitExceededError,
    NotCapturableError,
    NotFoundError,
    PermissionDeniedError,
    ServerError,
    ServerUnavailableError,
    UnauthenticatedError,
    WrongStateError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fluoroscope.calls.errors import FluoroscopeError
    from fluoroscope.wire import Arrived

ERRORS: Final[Mapping[grpc.StatusCode, type[FluoroscopeError]]] = {
    grpc.StatusCode.CANCELLED: CallCancelledError,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequestError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: LimitExceededError,
    grpc.StatusCode.FAILED_PRECONDITION: WrongStateError,
    grpc.StatusCode.UNAVAILABLE: ServerUnavailableError,
}
"""The error for each status; `ServerError` for any other."""

_REASONS: Final[Mapping[str, type[FluoroscopeError]]] = {
    "NOT_CAPTURABLE": NotCapturableError,
    "NOT_DIFFERENTIABLE": NotCapturableError,
    "NOTHING_TO_COMPARE": NotCapturableError,
}
"""The error for each reason that says more than the status."""
_MILLISECONDS: Final = re.compile("[0-9]{1,9}")

_START: Final = (
    "Start a server with `fluoroscope-server serve --model NAME=PATH`, or say where one is: "
    'fluoroscope.Client("HOST:PORT"), or `fluoroscope --server HOST:PORT`; if it encrypts, also whose word its '
    "certificate has: root_certificates= (--root-certificates)."
)
_NEXT: Final[Mapping[grpc.StatusCode, str]] = {
    grpc.StatusCode.DEADLINE_EXCEEDED: "Give a longer timeout= (--timeout), or ask for less.",
    grpc.StatusCode.UNAUTHENTICATED: "Give token= (--token-file, or FLUOROSCOPE_TOKEN).",
    grpc.StatusCode.PERMISSION_DENIED: "Ask the server's operator for a token that is for this.",
    grpc.StatusCode.UNIMPLEMENTED: "It is an older fluoroscope server, or another kind of server.",
}
"""What to do next, where the server's own words cannot say it."""


def error_of(error: grpc.RpcError, *, target: str, progress: Arrived | None = None) -> FluoroscopeError:
    """Returns the error for a call that ended with another status than OK.

    Args:
        error: What grpc or grpc.aio raised.
        target: The address that was called.
        progress: What had come of a stream before it ended.
    """
    code = error.code()
    details = _Details(error)
    kind = _REASONS.get(details.reason or "", ERRORS.get(code, ServerError))
    text = error.details() or f"the server at {target} answered {code.name}"
    if code is grpc.StatusCode.UNAVAILABLE and details.reason is None:
        # Every fluoroscope server gives a reason: this status comes from the transport itself.
        kind = ConnectionFailedError
        if progress is None:
            text = f"no connection to a fluoroscope server at {target}: {text}. {_START}"
        else:
            text = f"the connection to the fluoroscope server at {target} broke: {text}"
    if kind is ServerError:
        text = f"the server at {target} failed ({code.name}): {text}"
    if details.error_id is not None and details.error_id not in text:
        text = f"{text} (error id {details.error_id}; the server's log has the cause)"
    if progress is not None:
        text = f"{text} (When the stream ended, {progress}.)"
    if code in _NEXT:
        text = f"{text.rstrip('.')}. {_NEXT[code]}"
    return kind(
        text,
        reason=details.reason or code.name,
        field=details.field,
        retry_after=details.retry_after,
        request_id=details.request_id,
        arrived=progress,
    )


def pushback_of(error: grpc.RpcError) -> float | None:
    """Returns after how many seconds a server wants the call to be made again (gRFC A6).

    Negative means never, and so does what is no number; None means that it says nothing.
    """
    metadata: Any = error.trailing_metadata()  # pairs, though the stubs say that they cannot be unpacked
    for key, value in metadata or ():
        if key == "grpc-retry-pushback-ms":
            text = value if isinstance(value, str) else ""
            return int(text) / 1000 if _MILLISECONDS.fullmatch(text) else -1.0
    return None


class _Details:
    """The details of google.rpc.Status that a fluoroscope server gives, as far as they came."""

    __slots__ = ("error_id", "field", "reason", "request_id", "retry_after")

    def __init__(self, error: grpc.RpcError) -> None:
        self.reason: str | None = None
        self.error_id: str | None = None
        self.request_id: str | None = None
        self.field: str | None = None
        self.retry_after: float | None = None
        try:
            status = rpc_status.from_call(error)
        except ValueError:
            return  # a proxy changed the status: its details describe another one
        for detail in status.details if status is not None else ():
            self._read(detail)

    def _read(self, detail: error_details_pb2.Any) -> None:
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            self.reason = info.reason or None
            self.error_id = info.metadata.get("error_id")
            self.request_id = info.metadata.get("request_id")
        elif detail.Unpack(bad) and bad.field_violations:
            self.field = bad.field_violations[0].field
        elif detail.Unpack(retry):
            self.retry_after = retry.retry_delay.ToTimedelta().total_seconds()
