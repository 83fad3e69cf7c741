"""What is wanted of a model: which steps to load next, and which versions nobody needs any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fluoroscope_server.serving.refusal import MEMORY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fluoroscope_server.serving.model_entry import ModelEntry
    from fluoroscope_server.serving.steps import Step


def wanted(entry: ModelEntry, found: Mapping[int, Step]) -> set[int]:
    """Returns the versions that shall serve, given the steps that a scan found.

    They are what the policy chooses of the steps that are good as far as is known, what a label names, and what an
    operator has loaded by hand.
    """
    named = {*entry.labels.values(), *entry.policy.labels.values()}
    return {*_chosen(entry, found), *entry.asked, *filter(entry.wants, named)}


def next_step(entry: ModelEntry, found: Mapping[int, Step]) -> Step | None:
    """Returns the step to load next, the newest first; None if all that is wanted is there, or was refused."""
    for version in sorted(wanted(entry, found) & found.keys(), reverse=True):
        step, loaded = found[version], entry.loaded.get(version)
        if loaded is not None and loaded.saved in (None, step.saved):
            continue
        if not _is_refused(entry, step):
            return step
    return None


def superseded(entry: ModelEntry, found: Mapping[int, Step]) -> list[int]:
    """Returns the versions that nobody needs any more: none until all that the policy chooses serves."""
    chosen = _chosen(entry, found)
    if not chosen or chosen - entry.loaded.keys():
        return []
    return [version for version in entry.loaded if version not in wanted(entry, found)]


def _chosen(entry: ModelEntry, found: Mapping[int, Step]) -> set[int]:
    """Returns what the policy chooses of the steps that are good as far as is known."""
    good = [version for version in found if entry.wants(version) and not _is_bad(entry, found[version])]
    return set(entry.policy.choose(good))


def _is_bad(entry: ModelEntry, step: Step) -> bool:
    """Whether there is no use in choosing a step.

    What does not fit beside what is loaded is not bad: an older one is no smaller.
    """
    if step.version in entry.loaded or not _is_refused(entry, step):
        return False
    return entry.refused[step.version].kind != MEMORY or not entry.loaded


def _is_refused(entry: ModelEntry, step: Step) -> bool:
    """Whether a step was refused, and has not changed since."""
    refusal = entry.refused.get(step.version)
    return refusal is not None and refusal.contents == step.contents
