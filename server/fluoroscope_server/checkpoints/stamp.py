"""Stamps: whether a checkpoint is still the one that it was, told by sizes and times, without reading its arrays."""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path
from typing import TypeAlias

from fluoroscope_server.checkpoints.place import STEP_METADATA, TREE_METADATA, V1_MARKER

Stamp: TypeAlias = "frozenset[tuple[str | int, ...]]"
"""Of each file that was looked at its name, its size in bytes, and when it was changed, in nanoseconds; and what else
tells one checkpoint from another."""

_WRITTEN_ONCE = (STEP_METADATA, TREE_METADATA, V1_MARKER)

_REMEMBERED = 1 << 14
"""Of how many checkpoints the metadata is not read again at each look."""


def save_stamp(folder: Path) -> Stamp:
    """Returns the stamp of a save: another if the checkpoint is saved anew, the same if a file is put beside it.

    Looks at the few files that every save of Orbax writes, and reads when it was saved: where files come from an image
    or a store, all may have one time. Whoever may read them, and how often they are linked, makes no other save.
    """
    found = {f"{each}/{name}" for each in _folders(folder) for name in _WRITTEN_ONCE} | set(_WRITTEN_ONCE)
    files = {(name, size, changed) for name, size, changed, _ in _statuses(folder, *found)}
    return frozenset({*files, (_metadata_digest(folder / STEP_METADATA),)})


def content_stamp(folder: Path) -> Stamp:
    """Returns the stamp of all files below a folder: another if any of them was changed, added or removed.

    Links are followed, to folders too, each once; where they lead counts as well.
    """
    files: list[str] = []
    links: list[tuple[str]] = []
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real, name = os.path.realpath(place), os.path.relpath(place, folder)
        if Path(place).is_symlink():
            links.append((f"{name} -> {real}",))
        if real in seen:
            folders.clear()  # which the walk goes on with
            continue
        seen.add(real)
        files += [f"{name}/{each}" for each in names]
    return file_stamp(folder, *files).union(links)


def file_stamp(folder: Path, *names: str) -> Stamp:
    """Returns the stamp of some files of a folder, and of who may read them; those that are not there are left out."""
    return frozenset(_statuses(folder, *names))


def _statuses(folder: Path, *names: str) -> set[tuple[str, int, int, int]]:
    """Returns the name and size of each file, when its contents were changed, and when anything of it was."""
    found = set()
    for name in names:
        try:
            status = (folder / name).stat()
        except OSError:
            continue
        found.add((name, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    return found


def _metadata_digest(file: Path) -> str:
    """Returns the digest of a small file, which is read again only if it may be another; empty if there is none."""
    try:
        status = file.stat()
        return _digest(file, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    except OSError:
        return ""


@functools.lru_cache(_REMEMBERED)
def _digest(file: Path, *_: int) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _folders(folder: Path) -> list[str]:
    try:
        return [each.name for each in os.scandir(folder) if each.is_dir()]
    except OSError:
        return []  # deleted while we looked
