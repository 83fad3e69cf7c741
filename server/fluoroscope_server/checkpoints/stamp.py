"""Stamps: whether a checkpoint is still the one that it was, told by sizes and times, without reading its data."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeAlias

from fluoroscope_server.checkpoints.place import STEP_METADATA, TREE_METADATA, V1_MARKER

Stamp: TypeAlias = "frozenset[tuple[str, int, int]]"
"""The name, size in bytes and time of change in nanoseconds of each file that was looked at."""

_WRITTEN_ONCE = (STEP_METADATA, TREE_METADATA, V1_MARKER)


def save_stamp(folder: Path) -> Stamp:
    """Returns the stamp of a save: another if the checkpoint is saved anew, the same if a file is put beside it.

    Looks at the few files that every save of Orbax writes.
    """
    found = {f"{each}/{name}" for each in _folders(folder) for name in _WRITTEN_ONCE} | set(_WRITTEN_ONCE)
    return file_stamp(folder, *found)


def content_stamp(folder: Path) -> Stamp:
    """Returns the stamp of all files below a folder: another if any of them was changed, added or removed.

    Links are followed, to folders too, each once; where they lead counts as well.
    """
    files: list[str] = []
    links: list[tuple[str, int, int]] = []
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real, name = os.path.realpath(place), os.path.relpath(place, folder)
        if Path(place).is_symlink():
            links.append((f"{name} -> {real}", 0, 0))
        if real in seen:
            folders.clear()  # which the walk goes on with
            continue
        seen.add(real)
        files += [f"{name}/{each}" for each in names]
    return file_stamp(folder, *files).union(links)


def file_stamp(folder: Path, *names: str) -> Stamp:
    """Returns the stamp of some files of a folder; those that are not there are left out."""
    found = set()
    for name in names:
        try:
            status = (folder / name).stat()
        except OSError:
            continue
        found.add((name, status.st_size, status.st_mtime_ns))
    return frozenset(found)


def _folders(folder: Path) -> list[str]:
    try:
        return [each.name for each in os.scandir(folder) if each.is_dir()]
    except OSError:
        return []  # deleted while we looked
