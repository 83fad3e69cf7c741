"""From errors of the domain to gRPC statuses: the one table."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from fluoroscope_server.errors import (
    FluoroscopeError,
    InvalidRequestError,
    LimitExceededError,
    NotCapturableError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
    WrongStateError,
    sendable,
)

if TYPE_CHECKING:
    from google.protobuf.message import Message

CODES: dict[type[FluoroscopeError], grpc.StatusCode] = {
    InvalidRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    NotCapturableError: grpc.StatusCode.FAILED_PRECONDITION,
    WrongStateError: grpc.StatusCode.FAILED_PRECONDITION,
    LimitExceededError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    UnavailableError: grpc.StatusCode.UNAVAILABLE,
    UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    PermissionDeniedError: grpc.StatusCode.PERMISSION_DENIED,
    FluoroscopeError: grpc.StatusCode.INTERNAL,
}
"""The status code of each error; an error that is not here has that of its nearest base."""

DOMAIN = "fluoroscope"
"""The domain of every ErrorInfo that this server sends."""

DETAILS_KEY = "grpc-status-details-bin"
"""The trailing metadata in which gRPC carries a google.rpc.Status."""


PUSHBACK_KEY = "grpc-retry-pushback-ms"
"""The trailing metadata by which a server tells gRPC's own retries how long to wait; less than 0 means not to retry."""


LASTING = frozenset({"MODEL_FAILED", "MODEL_UNLOADED"})
"""The reasons for UNAVAILABLE that do not pass by waiting: somebody must act first."""


def trailing_of(error: FluoroscopeError, **metadata: str) -> tuple[tuple[str, str | bytes], ...]:
    """Returns the trailing metadata of a call that ended with an error; see `details_of`."""
    trailing: tuple[tuple[str, str | bytes], ...] = ((DETAILS_KEY, details_of(error, **metadata)),)
    if error.retry_after is not None:
        return (*trailing, (PUSHBACK_KEY, str(round(1000 * error.retry_after))))
    if isinstance(error, LimitExceededError) or error.reason in LASTING:  # what is too large is so tomorrow, too
        return (*trailing, (PUSHBACK_KEY, "-1"))
    return trailing


def code_of(error: FluoroscopeError) -> grpc.StatusCode:
    """Returns the status code of an error."""
    return next(CODES[base] for base in type(error).__mro__ if base in CODES)


MOST_BYTES = 1_500
"""How long a message may be, as gRPC encodes it: it travels three times, in 8 KiB with all other trailing metadata."""


def message_of(error: FluoroscopeError) -> str:
    """Returns the message of an error, its middle left out if it is long: the end says what to do."""
    message, half = error.message, MOST_BYTES // 2
    while len(message) > MOST_BYTES or _encoded_size(message := sendable(message)) > MOST_BYTES:
        message = f"{error.message[:half]} [...] {error.message[-half:]}"
        half = 3 * half // 4
    return message


def _encoded_size(message: str) -> int:
    """Returns how many bytes gRPC makes of a message; to know, they are made, so ask of short ones only."""
    return len(quote(message))  # what is not ASCII takes three bytes for each of its own


def details_of(error: FluoroscopeError, **metadata: str) -> bytes:
    """Returns an error as a serialized google.rpc.Status, with its reason, the field at fault, and when to retry."""
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)
    details = [_packed(info)]
    if error.field is not None:
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field[:200], description=message_of(error))
        details.append(_packed(error_details_pb2.BadRequest(field_violations=[violation])))
    if error.retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(round(1000 * error.retry_after))
        details.append(_packed(retry))
    number, _ = code_of(error).value
    status: bytes = status_pb2.Status(code=number, message=message_of(error), details=details).SerializeToString()
    return status


def _packed(message: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
