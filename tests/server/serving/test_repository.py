"""The repository: which servable a request means, and what it is told if there is none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from fluoroscope_server.errors import NotFoundError, UnavailableError
from fluoroscope_server.serving import Repository

from .house import repository_of

if TYPE_CHECKING:
    from fluoroscope_server.serving import Servable


def servable(name: str, version: int = 7) -> Servable:
    """All of a servable that a repository looks at."""
    closed: list[str] = []
    engine = SimpleNamespace(close=lambda: closed.append(name), closed=closed)
    return cast("Servable", SimpleNamespace(name=name, version=version, engine=engine))


def test_finds_what_is_loaded() -> None:
    digits = servable("digits")
    repository = repository_of(digits, "apples")
    assert repository.names() == ["apples", "digits"]
    assert repository.get("digits") is digits
    assert repository.get("digits", 7) is digits


@pytest.mark.parametrize(
    ("name", "version", "field", "reason", "message"),
    [
        ("digit", None, "model", "MODEL_NOT_FOUND", "there is no model 'digit'; this server has: 'digits'"),
        ("", None, "model", "MODEL_NOT_FOUND", "the request names no model; this server has: 'apples', 'digits'"),
        ("digits", 8, "version", "VERSION_NOT_FOUND", "model 'digits' has no version 8; it has 7"),
        ("digits", 0, "version", "VERSION_NOT_FOUND", "model 'digits' has no version 0; it has 7"),
    ],
)
def test_what_is_not_there(name: str, version: int | None, field: str, reason: str, message: str) -> None:
    repository = repository_of(servable("digits"), "apples")
    with pytest.raises(NotFoundError, match=message) as caught:
        repository.get(name, version)
    assert (caught.value.field, caught.value.reason) == (field, reason)


def test_what_is_still_being_loaded() -> None:
    with pytest.raises(UnavailableError, match="model 'apples' is still being loaded; try again soon") as caught:
        repository_of(servable("digits"), "apples").get("apples")
    assert caught.value.reason == "MODEL_LOADING"


def test_no_models() -> None:
    with pytest.raises(NotFoundError, match="there is no model 'digits'; this server has none"):
        Repository().get("digits")


def test_close_stops_all_compilers() -> None:
    loaded = servable("digits")
    repository_of(loaded, "apples").close()
    engine: Any = loaded.engine
    assert engine.closed == ["digits"]
