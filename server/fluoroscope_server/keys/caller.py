"""Who calls, and what they may do."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from fluoroscope_server.errors import PermissionDeniedError, quoted


class Scope(StrEnum):
    """What a token can be for. None includes another."""

    PREDICT = "predict"
    """To run networks as they were trained."""

    INSPECT = "inspect"
    """To learn anything of what is inside them."""

    ADMIN = "admin"
    """To load and unload models, and to move labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Whoever makes a call, as far as this server knows them."""

    name: str
    """What the operator calls them. It may be logged; what they showed to prove it may not."""

    scopes: frozenset[Scope]
    """What they may do."""

    models: frozenset[str] | None = None
    """To which models. None means all."""

    def require(self, *scopes: Scope) -> None:
        """Raises PermissionDeniedError unless they have one of these scopes."""
        if not self.scopes.isdisjoint(scopes):
            return
        needed = " or ".join(map(repr, map(str, scopes)))
        raise PermissionDeniedError(
            f"this needs the scope {needed}, and {self} has {', '.join(sorted(self.scopes)) or 'none'}",
            reason="SCOPE_MISSING",
        )

    def permit(self, model: str) -> None:
        """Raises PermissionDeniedError if that model is none of theirs, whether there is one of that name or not."""
        if not self.sees(model):
            raise PermissionDeniedError(
                f"{self} is for other models than {quoted(model)}", field="model", reason="MODEL_NOT_PERMITTED"
            )

    def sees(self, model: str) -> bool:
        """Returns whether that model is one of theirs."""
        return self.models is None or model in self.models

    def __str__(self) -> str:
        """Returns the caller for the end of a message: `token 'dashboard'`."""
        return f"token {self.name!r}" if self.name else "a call without a token"


ANYBODY: Final = Caller(name="", scopes=frozenset(Scope))
"""Whoever calls a server that asks nobody who they are; and the server itself."""

NOBODY: Final = Caller(name="", scopes=frozenset(), models=frozenset())
"""Who shows no token to a server that has some, where none is needed."""

CALLER: Final[ContextVar[Caller]] = ContextVar("caller", default=ANYBODY)
"""Who makes the call that is being answered: each is answered in a task, and so in a context, of its own."""


def caller() -> Caller:
    """Returns who makes the call that is being answered."""
    return CALLER.get()
