"""Callers: what they may do, and what they are told where they may not."""

from __future__ import annotations

import pytest

from fluoroscope_server.errors import PermissionDeniedError
from fluoroscope_server.keys import ANYBODY, NOBODY, Caller, Scope, caller

DASHBOARD = Caller(name="dashboard", scopes=frozenset({Scope.PREDICT}), models=frozenset({"digits"}))


def test_one_scope_of_several_is_enough() -> None:
    DASHBOARD.require(Scope.PREDICT)
    DASHBOARD.require(Scope.INSPECT, Scope.PREDICT)


@pytest.mark.parametrize(
    ("who", "scopes", "message"),
    [
        (DASHBOARD, (Scope.INSPECT,), "this needs the scope 'inspect', and token 'dashboard' has predict"),
        (DASHBOARD, (Scope.ADMIN, Scope.INSPECT), "this needs the scope 'admin' or 'inspect', and token"),
        (NOBODY, (Scope.PREDICT,), "this needs the scope 'predict', and a call without a token has none"),
        (NOBODY, tuple(Scope), "this needs the scope 'predict' or 'inspect' or 'admin'"),
    ],
)
def test_a_scope_that_is_missing(who: Caller, scopes: tuple[Scope, ...], message: str) -> None:
    with pytest.raises(PermissionDeniedError, match=message) as caught:
        who.require(*scopes)
    assert caught.value.reason == "SCOPE_MISSING"


def test_models() -> None:
    DASHBOARD.permit("digits")
    with pytest.raises(PermissionDeniedError, match="token 'dashboard' is for other models than 'faces'") as caught:
        DASHBOARD.permit("faces")
    assert (caught.value.reason, caught.value.field) == ("MODEL_NOT_PERMITTED", "model")
    assert not NOBODY.sees("digits")


def test_where_nobody_is_asked_everybody_may_do_everything() -> None:
    assert caller() is ANYBODY
    caller().permit("digits")
    for scope in Scope:
        caller().require(scope)
