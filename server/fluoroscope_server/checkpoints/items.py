"""The items of a checkpoint: named subfolders, one of which holds the weights."""

from __future__ import annotations

import enum
import os
from typing import TYPE_CHECKING

from fluoroscope_server.checkpoints.place import ARRAY_FILES, JSON_FILES, TEMPORARY, TREE_METADATA
from fluoroscope_server.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    from fluoroscope_server.checkpoints.place import Place

CONFIG = "config"
"""The item that says what the network is."""

_PREFERRED = ("params", "model_params", "default", "state", "items", "pytree", "model", "train_state")


class ItemKind(enum.Enum):
    """What a subfolder of a checkpoint holds."""

    ARRAYS = "a tree of arrays"
    """A tree that can be read."""

    HEADLESS = f"arrays without their {TREE_METADATA}"
    """Arrays whose tree is lost."""

    JSON = "JSON"
    """One JSON document."""


_TREES = (ItemKind.ARRAYS, ItemKind.HEADLESS)


def is_tree(folder: Path) -> bool:
    """Returns whether the folder itself, not one inside it, holds a tree of arrays, whole or not."""
    return _kind(folder) in _TREES


def holds_trees(folder: Path) -> bool:
    """Returns whether the folder or one of its items holds a tree of arrays, whole or not."""
    return is_tree(folder) or any(kind in _TREES for kind in items_of(folder).values())


def items_of(folder: Path) -> dict[str, ItemKind | None]:
    """Returns the items of a checkpoint by name; None for a folder of another kind."""
    return {
        child.name: _kind(child) for child in sorted(folder.iterdir()) if child.is_dir() and TEMPORARY not in child.name
    }


def choose_item(place: Place, name: str | None) -> Path:
    """Returns the folder that holds the weights.

    Args:
        place: the checkpoint.
        name: the item that the operator named, or None to look for it.

    Raises:
        CheckpointError: if there is no such item, or several could be meant.
    """
    if name is None and is_tree(place.folder):
        return _readable(place, place.folder, None)
    items = items_of(place.folder)
    if name is None:
        name = _find(place, items)
    elif name not in items:
        raise CheckpointError(f"{place} has no item {name!r}; {_present(items)}")
    return _readable(place, place.folder / name, name)


def _kind(folder: Path) -> ItemKind | None:
    if (folder / TREE_METADATA).is_file():
        return ItemKind.ARRAYS
    if any((folder / name).exists() for name in ARRAY_FILES) or any(map(_is_zarr, folder.iterdir())):
        return ItemKind.HEADLESS
    if any((folder / name).is_file() for name in JSON_FILES):
        return ItemKind.JSON
    return None


def _is_zarr(folder: Path) -> bool:
    return os.path.lexists(folder / ".zarray")  # False, too, where this user may not look


def _find(place: Place, items: dict[str, ItemKind | None]) -> str:
    for kind in _TREES:
        found = [name for name, each in items.items() if each is kind and name != CONFIG]
        preferred = [name for name in _PREFERRED if name in found]
        if preferred or len(found) == 1:
            return (preferred or found)[0]
        if found:
            raise CheckpointError(
                f"{place} has several items that could be the weights: {', '.join(found)}. "
                "Name the right one with `item`"
            )
    raise CheckpointError(f"{place} has no item that holds arrays; {_present(items)}")


def _present(items: dict[str, ItemKind | None]) -> str:
    if not items:
        return "it has no items at all"
    return "it has " + ", ".join(
        f"{name} ({kind.value})" if kind else f"{name} (unknown)" for name, kind in items.items()
    )


def _readable(place: Place, folder: Path, name: str | None) -> Path:
    kind = _kind(folder)
    if kind is ItemKind.ARRAYS:
        return folder
    subject = f"{place}, item {name!r}," if name else str(place)
    if kind is ItemKind.HEADLESS:
        raise CheckpointError(
            f"{subject} has arrays but no {TREE_METADATA} file, so their tree is unknown. The copy is incomplete, "
            "or a very old Orbax wrote it: copy it again, or save it again with a newer Orbax"
        )
    raise CheckpointError(
        f"{subject} holds {kind.value if kind else 'something else'}, not weights; name another `item`"
    )
