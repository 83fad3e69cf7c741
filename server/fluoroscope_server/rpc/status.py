"""From errors of the domain to gRPC statuses: the one table."""

from __future__ import annotations

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from fluoroscope_server.errors import (
    DeadlineExpiredError,
    FluoroscopeError,
    InvalidRequestError,
    LimitExceededError,
    NotCapturableError,
    NotFoundError,
    UnavailableError,
)

CODES: dict[type[FluoroscopeError], grpc.StatusCode] = {
    InvalidRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    NotCapturableError: grpc.StatusCode.FAILED_PRECONDITION,
    LimitExceededError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    UnavailableError: grpc.StatusCode.UNAVAILABLE,
    DeadlineExpiredError: grpc.StatusCode.DEADLINE_EXCEEDED,
    FluoroscopeError: grpc.StatusCode.INTERNAL,
}
"""The status code of each error; an error that is not here has that of its nearest base."""

DOMAIN = "fluoroscope"
"""The domain of every ErrorInfo that this server sends."""

DETAILS_KEY = "grpc-status-details-bin"
"""The trailing metadata in which gRPC carries a google.rpc.Status."""


def code_of(error: FluoroscopeError) -> grpc.StatusCode:
    """Returns the status code of an error."""
    return next(CODES[base] for base in type(error).__mro__ if base in CODES)


def details_of(error: FluoroscopeError, **metadata: str) -> bytes:
    """Returns an error as a serialized google.rpc.Status, with its reason and the field at fault."""
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)
    details = [_packed(info)]
    if error.field is not None:
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=error.message)
        details.append(_packed(error_details_pb2.BadRequest(field_violations=[violation])))
    number, _ = code_of(error).value
    status: bytes = status_pb2.Status(code=number, message=error.message, details=details).SerializeToString()
    return status


def _packed(message: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
