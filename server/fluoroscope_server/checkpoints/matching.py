"""Which stored leaf is which leaf of the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fluoroscope_server.checkpoints.leaf import converts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from fluoroscope_server.checkpoints.leaf import LeafSpec

_PARAMS = "params"

_CONTAINERS = ("state", "train_state", "model", "variables", "target", "default", "items", "pytree")
"""Names under which training scripts put everything that belongs to the network."""

_WEIGHTS = (_PARAMS, "model_params")
"""Names under which they put the weights."""

_BOXES = ("value", "raw_value")
"""The last key of an NNX variable, and of a Linen parameter with partitioning metadata, that was saved as it is."""

_TRAINING = frozenset(
    ("opt_state", "optimizer", "optimizer_state", "step", "epoch", "rng", "rngs", "ema", "ema_params", "metrics")
)
"""Names beside the weights that are never read, in a tree that has no collections."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """One way to see a stored tree as the network's variables."""

    root: str
    """The path in the stored tree under which the variables are; empty for the tree itself."""

    sources: Mapping[str, str]
    """The stored path of each expected path that is there."""

    missing: tuple[str, ...]
    """The expected paths that are not there."""

    wrong: tuple[str, ...]
    """The expected paths whose stored shape or dtype cannot become the expected one."""

    extra: tuple[str, ...]
    """The stored paths for which the network has no place."""

    @property
    def is_whole(self) -> bool:
        """Returns whether the stored tree fits the network."""
        return not (self.missing or self.wrong or self.extra)


def best_match(stored: Mapping[str, LeafSpec], expected: Mapping[str, LeafSpec], *, prefix: str | None = None) -> Match:
    """Returns the view of the stored tree that fits the network best.

    The best has the fewest leaves missing; of equals, the first: the tree itself before what is inside it. A leaf
    of the wrong shape and an extra leaf are no reason to look further: what fits better elsewhere may be another
    network, a teacher or an average.

    Args:
        stored: the leaves of the checkpoint, by path.
        expected: the leaves of the network's variables, by path.
        prefix: the path of the variables, or of the params alone, in the stored tree; None to look for it.
    """
    roots = _roots(stored) if prefix is None else [prefix.strip("/")]
    matches = [_match(stored, expected, root, view) for root in roots for view in _views(stored, expected, root)]
    return min(matches, key=lambda match: len(match.missing))


def _roots(stored: Iterable[str]) -> list[str]:
    nodes = {path[:end] for path in stored for end, letter in enumerate(path) if letter == "/"}
    containers = [""]
    for container in containers:  # grows while it is walked: a container may be inside another
        containers += [node for name in _CONTAINERS if (node := _join(container, name)) in nodes]
    roots: list[str] = []
    for container in containers:
        weights = [node for name in _WEIGHTS if (node := _join(container, name)) in nodes]
        nested = [node for weight in weights if (node := _join(weight, _PARAMS)) in nodes]
        roots += [container, *weights, *nested]
    return roots


def _views(stored: Iterable[str], expected: Mapping[str, LeafSpec], root: str) -> Iterator[dict[str, str]]:
    """Yields the ways to name the leaves under a root: {name in the network: stored path}."""
    below = {path[len(root) + 1 :] if root else path: path for path in stored if _is_below(path, root)}
    unboxed = {_unboxed(name): path for name, path in below.items()}
    collections = _collections(expected)
    # Two variables that would get one name are not boxes: better to call them extra than to take either.
    for names in (below, unboxed) if len(unboxed) == len(below) else (below,):
        yield names
        if collections:
            yield {_join(_PARAMS, name): path for name, path in names.items()}


def _match(stored: Mapping[str, LeafSpec], expected: Mapping[str, LeafSpec], root: str, view: dict[str, str]) -> Match:
    sources = {name: view[name] for name in expected if name in view}
    collections = _collections(expected)
    ignored = _random_state(view, stored)
    return Match(
        root=root,
        sources=sources,
        missing=tuple(name for name in expected if name not in view),
        wrong=tuple(name for name, path in sources.items() if not converts(stored[path], expected[name])),
        extra=tuple(
            path
            for name, path in view.items()
            if name not in expected and name not in ignored and _is_weight(name, collections)
        ),
    )


def _collections(expected: Iterable[str]) -> set[str]:
    """Returns the collections of Linen variables, or nothing for a tree that has none (NNX, pure functions)."""
    tops = {name.partition("/")[0] for name in expected}
    return tops if _PARAMS in tops else set()


def _is_weight(name: str, collections: set[str]) -> bool:
    top = name.partition("/")[0]
    return top in collections if collections else top not in _TRAINING


def _random_state(view: Mapping[str, str], stored: Mapping[str, LeafSpec]) -> set[str]:
    """Returns the names of the keys and counts of NNX's random streams."""
    unsigned = {name for name, path in view.items() if np.issubdtype(stored[path].dtype, np.unsignedinteger)}
    streams = {name.rpartition("/")[0] for name in unsigned if name.rpartition("/")[2] == "key"}
    pairs = {parent for parent in streams if _join(parent, "count") in unsigned}
    return {_join(parent, name) for parent in pairs for name in ("key", "count")}


def _unboxed(name: str) -> str:
    parent, _, last = name.rpartition("/")
    return parent if last in _BOXES else name


def _is_below(path: str, root: str) -> bool:
    return not root or path.startswith(f"{root}/")


def _join(parent: str, name: str) -> str:
    return f"{parent}/{name}" if parent else name
