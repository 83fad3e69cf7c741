"""What is wanted of a model: any model, any policy, any steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluoroscope_server.serving import ModelEntry
from fluoroscope_server.serving.refusal import MEMORY
from fluoroscope_server.serving.steps import Step
from fluoroscope_server.serving.version_policy import VersionPolicy
from fluoroscope_server.serving.wanted import next_step, superseded, wanted

from .test_model_entry import loaded, refusal

NUMBERS = st.integers(0, 6)
POLICIES = st.builds(
    VersionPolicy,
    latest=st.none() | st.integers(1, 3),
    only=st.lists(NUMBERS, max_size=2).map(tuple),
    labels=st.dictionaries(st.sampled_from(["stable", "canary"]), NUMBERS),
)


def steps(*versions: int) -> dict[int, Step]:
    return {
        version: Step(version=version, folder=Path(str(version)), saved=frozenset(), contents=frozenset())
        for version in versions
    }


@st.composite
def entries(draw: st.DrawFn) -> ModelEntry:
    """A model in any state in which it can be between two looks."""
    entry = ModelEntry("digits")
    entry.policy = draw(POLICIES)
    entry.loaded = {version: loaded(version) for version in draw(st.sets(NUMBERS))}
    entry.dismissed = draw(st.sets(NUMBERS)) - entry.loaded.keys()
    entry.asked = draw(st.sets(NUMBERS)) - entry.dismissed
    if entry.loaded:
        entry.labels = draw(st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from(sorted(entry.loaded))))
    return entry


def settle(entry: ModelEntry, found: dict[int, Step], bad: set[int]) -> list[int]:
    """Does all that is to be done, where what is `bad` is refused; returns what was tried."""
    tried: list[int] = []
    while (step := next_step(entry, found)) is not None:
        tried.append(step.version)
        assert len(set(tried)) == len(tried), "it tries nothing twice"
        if step.version in bad:
            entry.refused[step.version] = replace(refusal(), contents=step.contents)
        else:
            entry.loaded[step.version] = loaded(step.version)
    for version in superseded(entry, found):
        del entry.loaded[version]
    return tried


@given(entries(), st.sets(NUMBERS), st.sets(NUMBERS))
def test_whatever_happens(entry: ModelEntry, there: set[int], bad: set[int]) -> None:
    before, named = set(entry.loaded), set(entry.labels.values())
    found = steps(*there)
    tried = settle(entry, found, bad)
    assert set(tried) <= there - entry.dismissed
    assert named <= entry.loaded.keys(), "what a label names is never unloaded"
    assert entry.asked & before <= entry.loaded.keys(), "nor what an operator has loaded by hand"
    assert entry.loaded or not before, "what serves goes on serving unless something takes its place"
    good = {version for version in there - entry.dismissed if version in entry.loaded or version not in bad}
    assert set(entry.policy.choose(good)) <= entry.loaded.keys(), "the policy has its way with what is good"
    assert settle(entry, found, bad) == [], "and then there is nothing more to do"


def entry_with(*versions: int, **policy: object) -> ModelEntry:
    entry = ModelEntry("digits")
    entry.policy = VersionPolicy(**policy)  # type: ignore[arg-type]  # whatever the test says
    entry.loaded = {version: loaded(version) for version in versions}
    return entry


def test_the_newest_takes_the_place_of_the_old() -> None:
    entry = entry_with(100)
    assert settle(entry, steps(100, 200, 300), bad=set()) == [300]
    assert list(entry.loaded) == [300]


def test_the_newest_that_is_good() -> None:
    entry = entry_with(100)
    assert settle(entry, steps(100, 200, 300), bad={300}) == [300, 200]
    assert list(entry.loaded) == [200]


def test_a_step_that_was_deleted_serves_until_another_does() -> None:
    entry = entry_with(300)
    assert settle(entry, steps(), bad=set()) == []
    assert settle(entry, steps(400), bad={400}) == [400]
    assert list(entry.loaded) == [300]
    assert settle(entry, steps(200, 400), bad={400}) == [200], "who deletes the newest goes back to the one before"
    assert list(entry.loaded) == [200]


def test_what_does_not_fit_keeps_the_old_and_nothing_older_is_tried() -> None:
    entry, found = entry_with(100), steps(100, 200, 300)
    entry.refused[300] = replace(refusal(), kind=MEMORY, contents=frozenset())
    assert (next_step(entry, found), superseded(entry, found)) == (None, [])
    entry.labels = {"stable": 100}
    entry.loaded[50] = loaded(50)
    assert superseded(entry, found) == [], "that a label's version serves is not enough"
    entry.loaded.clear()
    step = next_step(entry, found)
    assert step is not None
    assert step.version == 200, "with nothing loaded, an older one is better than none"


@pytest.mark.parametrize("change", ["saved", "contents"])
def test_what_has_changed_is_tried_anew(change: str) -> None:
    entry, found = entry_with(100), steps(200)
    entry.loaded[200] = replace(loaded(200), saved=frozenset())
    entry.refused[200] = replace(refusal(), contents=frozenset())
    assert next_step(entry, found) is None
    entry.loaded.pop(200) if change == "contents" else entry.refused.pop(200)
    assert next_step(entry, found) is None
    changes: dict[str, Any] = {change: frozenset({("file", 1, 1)})}
    changed = {200: replace(found[200], **changes)}
    assert next_step(entry, changed) == changed[200]


def test_a_model_that_was_unloaded_wants_only_what_is_asked_for() -> None:
    entry = entry_with(labels={"stable": 100})
    entry.stopped = True
    assert wanted(entry, steps(100, 200)) == set()
    entry.asked.add(100)
    assert wanted(entry, steps(100, 200)) == {100}
