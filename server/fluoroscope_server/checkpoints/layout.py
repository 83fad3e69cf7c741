"""Where a checkpoint is: a folder of steps, or one checkpoint; read only, by the names that Orbax gives."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from fluoroscope_server.checkpoints.items import holds_trees, is_tree
from fluoroscope_server.checkpoints.place import (
    COMMITTED,
    STEP_METADATA,
    TEMPORARY,
    TREE_METADATA,
    V1_MARKER,
    Place,
)
from fluoroscope_server.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

_NUMBER = r"0*\d{1,18}"  # a greater one may not fit into 64 bits, and a version has no more
_STEP_NAME = re.compile(rf"(?:.+_)?({_NUMBER})")
_OWN_STEP = re.compile(_NUMBER)


def steps(path: Path) -> list[int]:
    """Returns the committed steps of a folder, ascending.

    A step that Orbax is still writing, an empty folder and the temporary folder of a save that never ended are
    not among them. A folder that is one checkpoint, not a series, has one step: 0, or the number that is its name.

    Raises:
        CheckpointError: if `path` is not a folder that can be listed.
    """
    return sorted(step_folders(path))


def step_folders(path: Path) -> dict[int, Path]:
    """Returns the folders of the committed steps by number; see `steps`.

    Raises:
        CheckpointError: if `path` is not a folder that can be listed.
    """
    try:
        _require_folder(path)
        if _is_checkpoint(path):
            return {} if _is_unfinished(path) else {_own_step(path): path}
        return _committed(path)
    except OSError as error:
        raise _unlistable(path, error) from None


def uncommitted(path: Path) -> list[str]:
    """Returns the names of what else is in a folder of steps: saves under way, those that never ended, empty steps.

    Raises:
        CheckpointError: if `path` is not a folder that can be listed.
    """
    try:
        _require_folder(path)
        if _is_checkpoint(path):
            return []
        committed = _committed(path).values()
        children = [child for child in sorted(path.iterdir()) if may_be_folder(child) and child not in committed]
    except OSError as error:
        raise _unlistable(path, error) from None
    return [child.name for child in children if TEMPORARY in child.name or _STEP_NAME.fullmatch(child.name)]


def may_be_folder(path: Path) -> bool:
    """Returns whether something is a folder, as far as this user may see."""
    try:
        return path.is_dir()
    except OSError:
        return True  # a link to what is another user's: whoever opens it is told why that fails


def locate(path: Path, step: int | None) -> Place:
    """Finds the checkpoint of a step, or of the newest committed step.

    Args:
        path: a folder of steps, or of one checkpoint.
        step: the step, or None for the newest.

    Raises:
        CheckpointError: if there is no such checkpoint; the message says what the folder is instead.
    """
    try:
        _require_folder(path)
        if _is_checkpoint(path):
            return _single(path, step)
        committed = _committed(path)
        if not committed:
            raise _no_checkpoint(path)
    except OSError as error:
        raise _unlistable(path, error) from None
    if step is not None and step not in committed:
        present = ", ".join(str(each) for each in sorted(committed))
        raise CheckpointError(f"checkpoint '{path}' has no committed step {step}; it has {present}")
    chosen = max(committed) if step is None else step
    return Place(path=path, folder=committed[chosen].absolute(), step=chosen, is_series=True)


def _require_folder(path: Path) -> None:
    if path.is_dir():
        return
    if str(path).startswith(("gs:", "s3:")):
        hint = "only folders of this machine can be read: mount the bucket, or copy the checkpoint"
    elif path.is_file():
        hint = "it is a file; give the folder that Orbax wrote"
    else:
        hint = "there is no such folder, or this user may not see it; give the folder that Orbax wrote"
    raise CheckpointError(f"checkpoint '{path}' cannot be opened: {hint}")


def _is_checkpoint(path: Path) -> bool:
    if is_tree(path) or any((path / name).is_file() for name in (STEP_METADATA, V1_MARKER)):
        return True
    if any(_STEP_NAME.fullmatch(child.name) for child in path.iterdir() if may_be_folder(child)):
        return False
    return holds_trees(path)


def _own_step(path: Path) -> int:
    # Orbax names the folders of a series by number; an operator who points at one of them wants its number.
    return int(path.name) if _OWN_STEP.fullmatch(path.name) else 0


def _single(path: Path, step: int | None) -> Place:
    own = _own_step(path)
    if _is_unfinished(path):
        raise CheckpointError(f"checkpoint '{path}' is a save that has not ended; give a committed step")
    if step not in (None, own):
        raise CheckpointError(
            f"checkpoint '{path}' is one checkpoint (step {own}), not a series with a step {step}; "
            "leave the step out, or give the folder above it"
        )
    return Place(path=path, folder=path.absolute(), step=own, is_series=False)


def _committed(path: Path) -> dict[int, Path]:
    return {
        int(name[1]): child
        for child in sorted(path.iterdir())
        if (name := _STEP_NAME.fullmatch(child.name)) and _is_committed(child)
    }


def _is_committed(folder: Path) -> bool:
    try:
        return folder.is_dir() and holds_trees(folder) and not _is_unfinished(folder)
    except FileNotFoundError:
        return False  # deleted while we looked: training keeps the newest few steps only
    except OSError:
        return True  # whoever loads it is told why it cannot be read; the steps beside it are none the worse


def _is_unfinished(folder: Path) -> bool:
    if TEMPORARY in folder.name:
        return True
    if (folder / COMMITTED).exists():
        return False
    try:
        saved = json.loads((folder / STEP_METADATA).read_bytes())
    except (ValueError, RecursionError, FileNotFoundError):
        return False  # Orbax reads such a checkpoint, and so do we
    # Where a folder cannot be renamed in one go, Orbax writes under the final name and fills this in at the end.
    return isinstance(saved, dict) and saved.get("commit_timestamp_nsecs", 0) is None


def _no_checkpoint(path: Path) -> CheckpointError:
    children = sorted(path.iterdir())
    if not children:
        return CheckpointError(f"checkpoint '{path}' is an empty folder; nothing has been saved in it yet")
    below = [each.name for each in children if each.is_dir() and not _is_unfinished(each) and _has_some(each)]
    if below:
        return CheckpointError(
            f"checkpoint '{path}' is not a checkpoint, but folders in it are; give one of them: {_some(below)}"
        )
    unfinished = [each.name for each in children if TEMPORARY in each.name or _STEP_NAME.fullmatch(each.name)]
    if unfinished:
        return CheckpointError(
            f"checkpoint '{path}' has no committed step; empty or unfinished: {_some(unfinished)}. "
            "Wait for the first save to end"
        )
    return CheckpointError(
        f"checkpoint '{path}' is not an Orbax checkpoint: it has no {TREE_METADATA}, no {STEP_METADATA} and no "
        f"folder of a step. It holds {_some([each.name for each in children])}. Weights of another format must "
        "first be saved with Orbax"
    )


def _has_some(folder: Path) -> bool:
    return _is_checkpoint(folder) or bool(_committed(folder))


def _some(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _unlistable(path: Path, error: OSError) -> CheckpointError:
    return CheckpointError(f"checkpoint '{path}' cannot be listed: {error.strerror or type(error).__name__}")
