"""A model: which version a request means, what it is told if there is none, and labels that are always right."""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from fluoroscope_server.errors import CheckpointError, NotFoundError, UnavailableError
from fluoroscope_server.keys import CALLER, Caller, Scope
from fluoroscope_server.serving import ModelEntry, VersionState
from fluoroscope_server.serving.model_entry import Loaded
from fluoroscope_server.serving.refusal import Refusal
from fluoroscope_server.serving.version_policy import VersionPolicy

if TYPE_CHECKING:
    from fluoroscope_server.errors import FluoroscopeError
    from fluoroscope_server.serving import Selector, Servable


def loaded(version: int) -> Loaded:
    """All of a version that an entry looks at."""
    return Loaded(servable=cast("Servable", SimpleNamespace(version=version, load_seconds=version / 100)))


def refusal(reason: str = "a flipped bit") -> Refusal:
    return Refusal(kind="DAMAGED", error=CheckpointError(reason), reason=reason)


@pytest.fixture
def entry() -> ModelEntry:
    """Versions 100 and 200 are loaded, 300 was refused; 100 is stable."""
    made = ModelEntry("digits")
    made.loaded = {200: loaded(200), 100: loaded(100)}
    made.refused = {300: refusal()}
    made.labels = {"stable": 100}
    return made


@pytest.mark.parametrize(("selector", "version"), [(None, 200), (100, 100), (200, 200), ("stable", 100)])
def test_which_version_is_meant(entry: ModelEntry, selector: Selector, version: int) -> None:
    assert entry.select(selector) is entry.loaded[version]


@pytest.mark.parametrize(
    ("selector", "error", "reason", "message"),
    [
        (0, NotFoundError, "VERSION_NOT_FOUND", "model 'digits' has no version 0; it has 100, 200"),
        (300, NotFoundError, "VERSION_NOT_FOUND", r"no version 300 \(it was refused: a flipped bit\); it has 100, 200"),
        ("canary", NotFoundError, "LABEL_NOT_FOUND", r"no label 'canary'; it has 'stable' \(version 100\)"),
        (400, UnavailableError, "MODEL_LOADING", "version 400 of model 'digits' is still being loaded"),
    ],
)
def test_what_is_not_there(
    entry: ModelEntry, selector: Selector, error: type[FluoroscopeError], reason: str, message: str
) -> None:
    entry.loading = 400
    with pytest.raises(error, match=message) as caught:
        entry.select(selector)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("changes", "reason", "message"),
    [
        ({}, "MODEL_LOADING", "is still being loaded"),
        ({"loading": 3, "refused": {2: refusal()}}, "MODEL_LOADING", "is still being loaded"),
        (
            {"refused": {2: refusal("old"), 3: refusal()}},
            "MODEL_FAILED",
            "no version that serves; 3 was refused: a flipped bit",
        ),
        ({"trouble": "not TOML"}, "MODEL_FAILED", "cannot be looked at: not TOML"),
        ({"stopped": True, "refused": {2: refusal()}}, "MODEL_UNLOADED", "was unloaded by an operator"),
        ({"dismissed": {2}}, "MODEL_UNLOADED", "was unloaded by an operator"),
    ],
)
def test_why_nothing_answers(changes: dict[str, Any], reason: str, message: str) -> None:
    entry = ModelEntry("digits")
    for name, value in changes.items():
        setattr(entry, name, value)
    for selector in (None, 2, "stable"):
        with pytest.raises(UnavailableError, match=f"model 'digits' .*{message}") as caught:
            entry.select(selector)
        assert caught.value.reason == reason


def test_who_may_not_look_inside_is_not_told_what_is_wrong_there() -> None:
    entry = ModelEntry("digits")
    entry.trouble = "model.toml has an unknown key 'hidden_sizes'"
    refused = ModelEntry("letters")
    refused.refused[3] = refusal("Dense_0/kernel is missing")

    def told(entry: ModelEntry, *scopes: Scope) -> str:
        CALLER.set(Caller(name="a", scopes=frozenset(scopes)))
        return entry.idleness[1]

    others = Scope.PREDICT, Scope.ADMIN
    assert "hidden_sizes" in copy_context().run(told, entry, Scope.INSPECT)
    assert copy_context().run(told, entry, *others) == "cannot be looked at: the server's log says why"
    assert "Dense_0/kernel" in copy_context().run(told, refused, Scope.INSPECT)
    assert copy_context().run(told, refused, *others).endswith("3 was refused: DAMAGED; the server's log says more")


def test_states(entry: ModelEntry) -> None:
    entry.loading = 400
    entry.leaving = [loaded(50)]
    entry.refused[200] = refusal()
    found = [(each.version, each.state.name, each.reason, each.labels) for each in entry.statuses()]
    assert found == [
        (50, "UNLOADING", "", ()),
        (100, "READY", "", ("stable",)),
        (200, "READY", "a newer save of it was refused: a flipped bit", ()),
        (300, "FAILED", "a flipped bit", ()),
        (400, "LOADING", "", ()),
    ]
    assert {each.state for each in entry.statuses()} == set(VersionState)


def test_labels_of_the_policy_follow_what_is_loaded(entry: ModelEntry) -> None:
    entry.policy = VersionPolicy(labels={"stable": 300, "newest": 200})
    entry.settle_labels()
    assert entry.labels == {"stable": 100, "newest": 200}, "stable stays where it was until 300 is there"
    entry.loaded[300] = loaded(300)
    entry.settle_labels()
    assert entry.labels == {"stable": 300, "newest": 200}
    entry.policy = VersionPolicy()
    entry.settle_labels()
    assert entry.labels == {}


def test_labels_that_are_set_by_hand_stay(entry: ModelEntry) -> None:
    entry.policy = VersionPolicy(labels={"stable": 100, "newest": 100})
    entry.set_label("canary", 200)
    entry.set_label("stable", 200)
    entry.set_label("newest", None)
    entry.settle_labels()
    assert entry.labels == {"canary": 200, "stable": 200}
    assert (entry.labels_of(200), entry.labels_of(100)) == (("canary", "stable"), ())


def test_whoever_asks_for_a_servable_uses_it(entry: ModelEntry) -> None:
    async def main() -> None:
        loaded = entry.select(None)
        loaded.users.add_current()
        assert len(loaded.users) == 1

    asyncio.run(main())
    assert len(entry.loaded[200].users) == 0
