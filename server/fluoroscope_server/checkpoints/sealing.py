"""Sealing: a manifest is written beside a checkpoint that was saved whole, so that any change is noticed later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fluoroscope_server.checkpoints.digest import explained
from fluoroscope_server.checkpoints.items import ItemKind, is_tree, items_of
from fluoroscope_server.checkpoints.layout import locate, steps
from fluoroscope_server.checkpoints.manifest import manifest_path, stray_manifests, write_manifest
from fluoroscope_server.checkpoints.place import TREE_METADATA
from fluoroscope_server.checkpoints.tree import read_tree
from fluoroscope_server.checkpoints.verifying import verify
from fluoroscope_server.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from fluoroscope_server.checkpoints.digest import Progress
    from fluoroscope_server.checkpoints.place import Place
    from fluoroscope_server.checkpoints.verifying import Verified


def seal(path: Path, step: int | None = None, *, progress: Progress | None = None) -> Verified:
    """Seals a checkpoint: reads every file, and writes a manifest of their digests beside its folder.

    Call it in a training script when the save has ended (`CheckpointManager.wait_until_finished`), in one process only.
    The folder of the checkpoint itself is not touched. One that is sealed already is compared with its seal.
    Manifests of steps that are gone are taken away.

    Args:
        path: a folder of steps, or one checkpoint.
        step: the step; None means the newest that is committed.
        progress: told how many bytes were read just now, and how many will be altogether.

    Returns:
        What was sealed; `content.digest` is what the server shows for it.

    Raises:
        DamagedError: it is sealed already, and is not what was sealed.
        CheckpointError: there is no such committed checkpoint, something of it is missing, nothing can be written, or
            the manifest of a step that is gone cannot be taken away.
    """
    place = locate(path, step)
    with explained(str(place)):
        _require_trees(place)
    verified = verify(path, step=place.step, progress=progress)
    if not verified.sealed:
        verified.confirm()
        write_manifest(place.folder, verified.content, subject=str(place))
    if place.is_series:
        _take_away(stray_manifests(path), sealed=place)
    return verified


def unsealed_steps(path: Path) -> list[int]:
    """Returns the committed steps that have no seal, ascending.

    Raises:
        CheckpointError: there is no committed step; the message says what the folder is instead.
    """
    found = steps(path) or [locate(path, None).step]  # which says what is there instead
    return [step for step in found if not manifest_path(locate(path, step).folder).exists()]


def _take_away(strays: Iterable[Path], *, sealed: Place) -> None:
    for stray in strays:
        try:
            stray.unlink(missing_ok=True)
        except OSError as error:
            raise CheckpointError(
                f"{sealed} is sealed, but {stray}, the seal of a step that is gone, cannot be deleted: "
                f"{error.strerror}; give this user write access to the folder, or delete it by hand"
            ) from None


def _require_trees(place: Place) -> None:
    """Refuses a checkpoint with a tree that cannot be read: a seal on half of one would be worse than none."""
    items: dict[str, ItemKind | None] = {"": ItemKind.ARRAYS} if is_tree(place.folder) else items_of(place.folder)
    for name, kind in items.items():
        folder = place.folder / name
        subject = f"{place}, item {name!r}," if name else str(place)
        if kind in {ItemKind.ARRAYS, ItemKind.HEADLESS} and not (folder / TREE_METADATA).is_file():
            raise CheckpointError(
                f"{subject} has arrays but no {TREE_METADATA} file: the copy is incomplete; copy it again"
            )
        if kind is ItemKind.ARRAYS:
            read_tree(folder, subject=subject)
