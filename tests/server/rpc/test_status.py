"""The one table from errors to statuses: it has them all, and their details can be read."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from fluoroscope_server.errors import (
    FluoroscopeError,
    InvalidRequestError,
    LimitExceededError,
    NotFoundError,
    UnavailableError,
)
from fluoroscope_server.rpc.status import (
    CODES,
    DOMAIN,
    MOST_BYTES,
    PUSHBACK_KEY,
    code_of,
    details_of,
    message_of,
    trailing_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


def subclasses(base: type[FluoroscopeError]) -> Iterator[type[FluoroscopeError]]:
    yield base
    for each in base.__subclasses__():
        yield from subclasses(each)


EXPECTED = {
    "FluoroscopeError": "INTERNAL",
    "InvalidRequestError": "INVALID_ARGUMENT",
    "NotFoundError": "NOT_FOUND",
    "NotCapturableError": "FAILED_PRECONDITION",
    "WrongStateError": "FAILED_PRECONDITION",
    "LimitExceededError": "RESOURCE_EXHAUSTED",
    "UnavailableError": "UNAVAILABLE",
    "UnauthenticatedError": "UNAUTHENTICATED",
    "PermissionDeniedError": "PERMISSION_DENIED",
    "ModelError": "INTERNAL",
    "ConfigError": "INTERNAL",
    "CheckpointError": "INTERNAL",
    "DamagedError": "INTERNAL",
    "UnsealedError": "INTERNAL",
    "MismatchError": "INTERNAL",
    "NotFiniteError": "INTERNAL",
    "OutOfMemoryError": "INTERNAL",
    "SettingsError": "INTERNAL",
}
"""What an operator must mend is INTERNAL to a caller."""


@pytest.mark.parametrize("error", list(subclasses(FluoroscopeError)))
def test_every_error_has_a_code(error: type[FluoroscopeError]) -> None:
    """A new error fails here by its name until somebody has thought of its code."""
    assert code_of(error("text")).name == EXPECTED[error.__name__]


def test_every_row_is_used() -> None:
    assert {error.__name__ for error in CODES} <= set(EXPECTED)


def test_an_error_that_is_not_in_the_table_has_the_code_of_its_nearest_base() -> None:
    class VanishedError(NotFoundError):
        """Found only here."""

    assert code_of(VanishedError("gone")) is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("field", [None, "captures[0].sites[1]"])
@pytest.mark.parametrize("reason", [None, "SITE_NOT_FOUND"])
def test_details_are_googles(field: str | None, reason: str | None) -> None:
    error = InvalidRequestError("what, why, and what next: é", field=field, reason=reason)
    status = status_pb2.Status.FromString(details_of(error))
    assert status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert status.message == error.message
    info, violations = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain) == (reason or "INVALID_REQUEST", DOMAIN)
    assert len(status.details) == (1 if field is None else 2)
    if field is not None:
        assert status.details[1].Unpack(violations)
        (violation,) = violations.field_violations
        assert (violation.field, violation.description) == (field, error.message)


class Text(str):
    """A text that nobody may go through as a whole."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        raise AssertionError(f"{len(self):,} characters are encoded to {encoding} ({errors})")


@pytest.mark.parametrize("letter", ["a", " ", "é", "\U0001f9e0"])
def test_of_a_message_of_any_length_only_the_ends_are_looked_at(letter: str) -> None:
    error = InvalidRequestError(Text(f"what came: {letter * 30_000_000}; what to do"), field="model")
    message = message_of(error)
    assert message.startswith("what came: ")
    assert f"{letter} [...] {letter}" in message
    assert message.endswith("; what to do")
    assert MOST_BYTES / 2 < len(quote(message)) <= MOST_BYTES
    (_, details), *_ = trailing_of(error)
    assert isinstance(details, bytes)
    assert status_pb2.Status.FromString(details).message == message


def test_what_is_no_unicode_is_escaped() -> None:
    assert message_of(InvalidRequestError("a\udcff")) == r"a\udcff"


@pytest.mark.parametrize("length", [MOST_BYTES - 1, MOST_BYTES, MOST_BYTES + 1])
def test_a_message_is_left_as_it_is_if_it_fits(length: int) -> None:
    assert (message_of(InvalidRequestError("a" * length)) == "a" * length) is (length <= MOST_BYTES)


@pytest.mark.parametrize("error", list(subclasses(FluoroscopeError)))
def test_reasons_are_constants(error: type[FluoroscopeError]) -> None:
    """As google.rpc.ErrorInfo has them."""
    assert error.reason.replace("_", "").isupper()


@pytest.mark.parametrize(
    ("error", "pushback"),
    [
        (LimitExceededError("the queue is full", retry_after=0.25), "250"),
        (LimitExceededError("too large"), "-1"),
        (UnavailableError("still being loaded", reason="MODEL_LOADING"), None),
        (UnavailableError("the server is draining", reason="DRAINING"), None),
        (UnavailableError("its only version was refused", reason="MODEL_FAILED"), "-1"),
        (UnavailableError("was unloaded by an operator", reason="MODEL_UNLOADED"), "-1"),
        (NotFoundError("no such model"), None),
    ],
)
def test_whether_waiting_helps_is_told(error: FluoroscopeError, pushback: str | None) -> None:
    assert dict(trailing_of(error)).get(PUSHBACK_KEY) == pushback
