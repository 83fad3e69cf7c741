"""What can go wrong with a call, as a program that calls would like to tell it apart.

FluoroscopeError
├── InvalidRequestError        the request cannot be right, whatever the server does
├── NotFoundError              it names a model, version or site that is not there
├── WrongStateError            not as things stand: something else must be changed first
│   └── NotCapturableError     the site exists, but its value cannot be captured this way
├── LimitExceededError         a limit of the server was reached: ask for less, or later
├── DeadlineExceededError      no answer in time
├── UnauthenticatedError       no token, or not one that the server knows
├── PermissionDeniedError      the token does not allow this
├── ServerUnavailableError     the server cannot answer now, but may later
│   └── ConnectionFailedError  nobody answers at the address, or the connection broke
├── CallCancelledError         the call was cancelled before it was answered
├── IncompleteStreamError      a stream ended before its trailer
├── CorruptStreamError         a stream holds something that it must not hold
└── ServerError                the server failed: its log has the cause
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fluoroscope.wire import Arrived


class FluoroscopeError(Exception):
    """The root of all errors that this package raises on purpose."""

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        field: str | None = None,
        retry_after: float | None = None,
        request_id: str | None = None,
        arrived: Arrived | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        """What came, what was expected, and what to do next."""
        self.reason = reason
        """A constant in capitals that programs can branch on, such as LIMIT_EXCEEDED."""
        self.field = field
        """The field of the request that is at fault, such as `inputs[image]`."""
        self.retry_after = retry_after
        """After how many seconds the server would like to be asked again, if it says so."""
        self.request_id = request_id
        """What the server's log calls the request, if it was the server that answered: ask its operator about this."""
        self.arrived = arrived
        """What had come of a stream before it broke, and what had not. None for other calls, and if nothing had."""


class InvalidRequestError(FluoroscopeError):
    """The request cannot be right, whatever the state of the server."""


class NotFoundError(FluoroscopeError):
    """The request names something that is not there; the message lists the nearest names."""


class WrongStateError(FluoroscopeError):
    """The request could be right, but not as things stand; the message says what must be changed first."""


class NotCapturableError(WrongStateError):
    """The site exists, but its value cannot be captured as asked; the message says why."""


class LimitExceededError(FluoroscopeError):
    """A limit of the server was reached; the message names it. Ask for less, or later."""


class DeadlineExceededError(FluoroscopeError):
    """No answer came in time. Give the call a longer `timeout`, or ask for less."""


class UnauthenticatedError(FluoroscopeError):
    """The server wants a token and got none, or not one that it knows."""


class PermissionDeniedError(FluoroscopeError):
    """The token does not allow this call."""


class ServerUnavailableError(FluoroscopeError):
    """The server cannot answer now, but may later: it starts, drains, or the model is not ready."""


class ConnectionFailedError(ServerUnavailableError):
    """Nobody answers at the address, or the connection broke."""


class CallCancelledError(FluoroscopeError):
    """The call was cancelled before it was answered."""


class IncompleteStreamError(FluoroscopeError):
    """A stream ended before its trailer: what came is not all, and nothing has confirmed it."""


class CorruptStreamError(FluoroscopeError):
    """A stream holds something that it must not hold: none of its values can be trusted."""


class ServerError(FluoroscopeError):
    """The server failed, or answers in a way that this client does not understand."""
