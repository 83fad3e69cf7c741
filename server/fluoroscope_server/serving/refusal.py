"""Refusals: why a step does not serve, in the words for the operator, for a client, and for a metric."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fluoroscope_server.errors import (
    FluoroscopeError,
    ModelError,
    OutOfMemoryError,
    WrongStateError,
    sendable,
)
from fluoroscope_server.keys import Scope, caller

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fluoroscope_server.checkpoints import Stamp

_log = logging.getLogger(__name__)

MEMORY = OutOfMemoryError.reason
"""The kind of a step that does not fit into memory, whatever is in it."""

CHANGED = "CHANGED"
"""The kind of a step that was changed or deleted while it was loaded: trainers do that, and nothing is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why one step of a model does not serve."""

    kind: str
    """What is wrong: one of `errors.REFUSALS`, or `CHANGED`."""

    error: ModelError
    """What was raised; its message is for the operator, and may name paths."""

    reason: str
    """The same for clients: it names no path."""

    contents: Stamp | None = None
    """What the step held when it was refused; while it holds that, it is not tried anew."""

    @property
    def told(self) -> str:
        """The reason as the caller may read it: what is inside only if they may look there."""
        return self.reason if Scope.INSPECT in caller().scopes else f"{self.kind}; the server's log says more"

    def as_error(self) -> WrongStateError:
        """Returns what an operator who asked from afar is told."""
        return WrongStateError(f"the step is refused: {self.told}", field="version", reason=self.kind)


def refusal_of(error: ModelError, folder: Path, *, contents: Stamp | None) -> Refusal:
    """Returns the refusal of a step of the model in `folder`, of what its loading raised.

    The error loses its traceback: the frames in it hold what was loaded so far, and a refusal is kept.
    """
    _log.debug("a step was refused", exc_info=error)
    for each in _causes(error):
        each.__traceback__ = None
    if error.reason == MEMORY:
        reason = "it does not fit into memory beside what is loaded: unload something first"
    elif type(error) is ModelError and not isinstance(error.__cause__, FluoroscopeError):
        # Raised by the compiler or by the operator's code: nobody knows what its text says.
        reason = "it cannot be loaded; the server's log says why"
    else:
        reason = sendable(_without_path(error.message, folder))
    return Refusal(kind=error.reason, error=error, reason=reason, contents=contents)


def _without_path(text: str, folder: Path) -> str:
    """Names a model's folder by its last part alone."""
    for path in (folder.absolute(), folder):
        text = text.replace(str(path), folder.name)
    return text


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yields an error and what it came of."""
    each: BaseException | None = error
    while each is not None:
        yield each
        each = each.__cause__ or each.__context__
