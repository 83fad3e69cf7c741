"""The steps of a model on disk, and the models of a repository: what a scan finds. Reads no weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fluoroscope_server.checkpoints import (
    content_stamp,
    file_stamp,
    manifest_path,
    may_be_folder,
    save_stamp,
    step_folders,
)
from fluoroscope_server.errors import CheckpointError
from fluoroscope_server.serving.model_file import CONFIG_FILE

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from fluoroscope_server.checkpoints import Stamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A committed step, as it lay there when it was looked at."""

    version: int
    """Its number."""

    folder: Path
    """Where it is."""

    saved: Stamp
    """Changes when the step is saved anew."""

    contents: Stamp | None = None
    """Changes with any file of the step, its seal, and the model.toml; None if nobody asked for it."""

    def looked_into(self, model: Path) -> Step:
        """Returns the step with its `contents`, as they are now. `model` is the folder of the model."""
        seal = manifest_path(self.folder)
        beside = file_stamp(seal.parent, seal.name) | file_stamp(model, CONFIG_FILE)
        return replace(self, contents=content_stamp(self.folder) | beside)


def scan_steps(model: Path, *, closely: Collection[int] = ()) -> dict[int, Step]:
    """Returns the committed steps of a model's folder by number; looks into those of `closely`.

    Raises:
        CheckpointError: the folder cannot be listed.
    """
    found = {
        number: Step(version=number, folder=folder, saved=save_stamp(folder))
        for number, folder in step_folders(model).items()
    }
    return {number: step.looked_into(model) if number in closely else step for number, step in found.items()}


def scan_models(root: Path, *, known: Collection[str] = ()) -> dict[str, Path]:
    """Returns the folders of a repository that are models, by name.

    A folder is one if it holds a model.toml or a committed step; one that is `known` stays one as long as it is there.

    Raises:
        OSError: the repository cannot be listed.
    """
    return {each.name: each for each in folders_of_models(root) if each.name in known or is_model(each)}


def folders_of_models(root: Path) -> list[Path]:
    """Returns the folders of a repository in which models may be, sorted: all but those that begin with `.` or `_`.

    Raises:
        OSError: the repository cannot be listed.
    """
    return sorted(each for each in root.iterdir() if not each.name.startswith((".", "_")) and may_be_folder(each))


def is_model(folder: Path) -> bool:
    """Returns whether a folder of a repository holds a model.toml or a committed step, as far as it can be read."""
    try:
        return (folder / CONFIG_FILE).is_file() or bool(step_folders(folder))
    except (OSError, CheckpointError):
        return False  # deleted while we looked, or not ours to read
