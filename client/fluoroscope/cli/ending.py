"""How the command line ends: what scripts can tell from its exit code."""

from __future__ import annotations

from typing import Final

from fluoroscope.calls import (
    ConnectionFailedError,
    CorruptStreamError,
    DeadlineExceededError,
    FluoroscopeError,
    IncompleteStreamError,
    InvalidRequestError,
    ServerUnavailableError,
)

WRONG: Final = 2
"""The exit code where the command line, or a file or stream that it uses, is wrong."""

INTERRUPTED: Final = 130
"""The exit code after Ctrl-C."""

DIVERGES: Final = 5
"""The exit code of `compare --check` where a site diverges."""

_CODES: Final[dict[type, int]] = {
    ConnectionFailedError: 3,
    ServerUnavailableError: 3,
    DeadlineExceededError: 3,
    IncompleteStreamError: 4,
    CorruptStreamError: 4,
    FluoroscopeError: 1,
}

EXIT_CODES: Final = """Exit codes:
  0    done
  1    the server refused, or failed
  2    the command line, or a file or stream that it uses, is wrong
  3    the server cannot be reached, is not ready, or did not answer in time
  4    the stream was incomplete or corrupt
  5    compare --check: a site diverges
  130  interrupted with Ctrl-C"""
"""The exit codes, for help texts."""


def exit_code(error: FluoroscopeError) -> int:
    """Returns the exit code for a call that went wrong, or that the client refused to make."""
    if isinstance(error, InvalidRequestError) and error.reason is None:
        return WRONG  # a server's refusal has a reason, if only the name of its status
    return next(_CODES[kind] for kind in type(error).__mro__ if kind in _CODES)


def epilog(*paragraphs: str) -> str:
    """Returns what stands below the options of a command's help: paragraphs as they are, and the exit codes."""
    return "\n\n".join(f"\b\n{paragraph}" for paragraph in (*paragraphs, EXIT_CODES))
