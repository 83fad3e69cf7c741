"""What can go wrong, in the words of the domain; one table in `rpc.status` turns it into status codes.

FluoroscopeError
├── InvalidRequestError          the request cannot be right, now or later
├── NotFoundError                the request names something that is not there
├── NotCapturableError           the site exists, but its value cannot be captured this way
├── WrongStateError              not as things stand: something else must be changed first
├── LimitExceededError           a limit of this server was reached
├── UnavailableError             not now: starting, draining, or the model is not ready
├── UnauthenticatedError         nobody knows who calls
├── PermissionDeniedError        it is known who calls, and they may not do this
├── ModelError                   a model cannot be served as the operator described it
│   ├── ConfigError              its config or its family
│   ├── CheckpointError          its checkpoint: it cannot be read
│   │   ├── DamagedError         it is not what was sealed
│   │   ├── UnsealedError        it has no seal, and must have one
│   │   └── MismatchError        it does not fit the network
│   ├── NotFiniteError           its weights, or what it computes, are not finite
│   └── OutOfMemoryError         it does not fit into memory
└── SettingsError                the server cannot start as the operator described it

Every message says what came, what was expected and, where it helps, what to do next. It may reach a
remote client, so it names no path of this machine; an operator's message, of `ModelError` and
`SettingsError`, may.
"""

from __future__ import annotations

import difflib
import heapq
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class FluoroscopeError(Exception):
    """The root of all errors that this package raises on purpose."""

    reason = "UNKNOWN"
    """A constant in capitals that programs can branch on; sent as ErrorInfo.reason."""

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        reason: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        """Takes what there is to say.

        Args:
            message: what came, what was expected, what to do next.
            field: the field of the request that is at fault.
            reason: a finer reason than the class's.
            retry_after: in how many seconds the same request may succeed; None if waiting does not help.
        """
        super().__init__(message)
        self.message = message
        self.field = field
        self.retry_after = retry_after
        if reason is not None:
            self.reason = reason


class InvalidRequestError(FluoroscopeError):
    """The request cannot be right, whatever the state of the server."""

    reason = "INVALID_REQUEST"


class NotFoundError(FluoroscopeError):
    """The request names something that is not there."""

    reason = "NOT_FOUND"


class NotCapturableError(FluoroscopeError):
    """The site exists, but its value cannot be captured as asked."""

    reason = "NOT_CAPTURABLE"


class WrongStateError(FluoroscopeError):
    """The request could be right, but not as things stand; the message says what must be changed first."""

    reason = "WRONG_STATE"


class LimitExceededError(FluoroscopeError):
    """A limit of this server was reached; the message names the limit and its value."""

    reason = "LIMIT_EXCEEDED"


class UnavailableError(FluoroscopeError):
    """The server cannot answer now, but may later."""

    reason = "UNAVAILABLE"


class UnauthenticatedError(FluoroscopeError):
    """The caller shows no token, or none that is known."""

    reason = "UNAUTHENTICATED"


class PermissionDeniedError(FluoroscopeError):
    """The caller's token is not for this."""

    reason = "PERMISSION_DENIED"


class ModelError(FluoroscopeError):
    """A model cannot be served as the operator described it."""

    reason = "MODEL"


class ConfigError(ModelError):
    """The model's config or family is wrong."""

    reason = "CONFIG"


class CheckpointError(ModelError):
    """The model's checkpoint cannot be read, or does not fit the network."""

    reason = "UNREADABLE"


class DamagedError(CheckpointError):
    """The checkpoint is not what was sealed."""

    reason = "DAMAGED"


class UnsealedError(CheckpointError):
    """The checkpoint has no seal, and the operator wants one."""

    reason = "UNSEALED"


class MismatchError(CheckpointError):
    """The checkpoint does not fit the network: leaves are missing, extra, or of another shape or kind."""

    reason = "MISMATCH"


class NotFiniteError(ModelError):
    """The weights hold NaN or infinite elements, or the network computes such of plain inputs."""

    reason = "NOT_FINITE"


class OutOfMemoryError(ModelError):
    """The model does not fit into the memory of the host or of the device."""

    reason = "OUT_OF_MEMORY"


REFUSALS: tuple[str, ...] = tuple(
    sorted(
        each.reason
        for each in (
            ModelError,
            ConfigError,
            CheckpointError,
            DamagedError,
            UnsealedError,
            MismatchError,
            NotFiniteError,
            OutOfMemoryError,
        )
    )
)
"""Every reason for which a checkpoint is refused."""


class SettingsError(FluoroscopeError):
    """The server cannot start with these settings."""

    reason = "SETTINGS"


_OUT_OF_MEMORY = re.compile(r"RESOURCE_EXHAUSTED|out.of.memory", re.IGNORECASE)
"""What XLA says: some versions pass an INTERNAL error on, with only the text to tell."""


MOST_QUOTED = 200
"""How many characters of a request's text a message shows: names that a server has are shorter, or alike by then."""


def counted(number: int, noun: str) -> str:
    """Returns a number and what it counts: `1 row`, `2,000 rows`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def quoted(text: str) -> str:
    """Returns a text of a request for a message, in quotes; its end is left out if it is long: it may have 64 MiB."""
    return repr(text) if len(text) <= MOST_QUOTED else f"{text[:MOST_QUOTED]!r}..."


def sendable(text: str) -> str:
    """Returns a text with what is no Unicode escaped: names of files may be any bytes, and no message carries those."""
    return text.encode(errors="backslashreplace").decode()


def ran_out_of_memory(error: BaseException | None) -> bool:
    """Returns whether an error that Python or the compiler raised says that there is no memory left."""
    return isinstance(error, MemoryError) or bool(_OUT_OF_MEMORY.search(str(error)))


def nearest(name: str, known: Iterable[str], *, most: int = 5) -> str:
    """Returns the known names closest to `name`, for the end of a message: the first few, if none is close."""
    names = list(known)
    if not names:
        return "there are none"
    name = name[:MOST_QUOTED]
    close = difflib.get_close_matches(name, _shortlist(name, names), n=most, cutoff=0.4)
    shown = close or names[:most]
    rest = 0 if close else len(names) - len(shown)
    return ", ".join(repr(each) for each in shown) + (f" and {rest} more" if rest else "")


def _shortlist(name: str, names: list[str], *, most: int = 50) -> list[str]:
    """Returns the names that share the most runs of three letters with `name`: difflib is slow on thousands."""
    if len(names) <= most:
        return names
    runs = {name[place : place + 3] for place in range(len(name))}
    return heapq.nlargest(most, names, key=lambda each: sum(run in each for run in runs) / (len(runs) + len(each)))
