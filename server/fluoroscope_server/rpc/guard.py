"""The guard: finds out who calls, and whether they may."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from fluoroscope_server.errors import PermissionDeniedError, UnauthenticatedError
from fluoroscope_server.keys import CALLER, NOBODY
from fluoroscope_server.rpc.access import ACCESS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from fluoroscope_server.keys import Caller, Scope, Tokens
    from fluoroscope_server.rpc.context import Context

Admit: TypeAlias = "Callable[[Context], None]"
"""Lets a call in, or raises the error that it is refused with."""

_SCHEME = "bearer "
_NAMES = ("x509_common_name", "x509_subject_alternative_name")


class Guard:
    """Asks each call for its token, where there are tokens; says who calls for as long as it is answered."""

    def __init__(self, tokens: Tokens | None, access: Mapping[str, frozenset[Scope]] = ACCESS) -> None:
        """Takes the tokens, None if nobody is asked; and what each method needs."""
        self._tokens = tokens
        self._access = access

    def door(self, method: str) -> Admit:
        """Returns what lets calls of a method in, by its path; nobody, if the table has no row for it."""
        if self._tokens is None:
            return _anybody
        tokens, scopes = self._tokens, self._access.get(method)
        if scopes is None:
            return _nobody
        needed = sorted(scopes)

        def admit(context: Context) -> None:
            if not needed:
                CALLER.set(NOBODY)
                return
            caller = _identify(tokens, context)
            caller.require(*needed)
            CALLER.set(caller)

        return admit


def _anybody(_: Context) -> None:
    """Asks nothing."""


def _nobody(_: Context) -> None:
    raise PermissionDeniedError(
        "no scope is for this method: its row in the server's table is missing", reason="METHOD_NOT_PERMITTED"
    )


def _identify(tokens: Tokens, context: Context) -> Caller:
    """Returns who calls; raises UnauthenticatedError."""
    for key, value in context.invocation_metadata() or ():
        if key == "authorization":
            text = value if isinstance(value, str) else ""
            if text[: len(_SCHEME)].lower() != _SCHEME:
                raise UnauthenticatedError("the authorization that came is none of `Bearer TOKEN`")
            return tokens.of_bearer(text[len(_SCHEME) :].strip())
    if tokens.knows_certificates:
        return tokens.of_certificate(_names(context))
    raise UnauthenticatedError(
        "no token came: send one as the metadata `authorization: Bearer TOKEN`", reason="TOKEN_MISSING"
    )


def _names(context: Context) -> Iterator[str]:
    """Yields the names in the certificate that the client showed, if the connection asked for one."""
    shown = context.auth_context()
    for key in _NAMES:
        for name in shown.get(key, ()):
            yield name.decode("utf-8", "replace")
