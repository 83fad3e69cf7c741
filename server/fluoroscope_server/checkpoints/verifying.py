"""Verifying: is a checkpoint what was sealed, and has it stayed so while it was read?"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fluoroscope_server.checkpoints.digest import digests_of, marks_of
from fluoroscope_server.checkpoints.layout import locate
from fluoroscope_server.checkpoints.manifest import Manifest, manifest_path, read_manifest
from fluoroscope_server.errors import CheckpointError, UnsealedError

if TYPE_CHECKING:
    from pathlib import Path

    from fluoroscope_server.checkpoints.digest import Marks, Progress
    from fluoroscope_server.checkpoints.place import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A checkpoint whose every byte was read, and compared with its seal if it has one."""

    place: Place
    """Where it is."""

    content: Manifest
    """What is in it."""

    sealed: bool
    """Whether it has a seal. If not, nobody knows whether these are the bytes that were saved."""

    marks: Marks
    """The files as they were before they were read."""

    def confirm(self) -> None:
        """Makes sure that what was read since then are the same files: neither changed, nor added, nor deleted.

        Raises:
            CheckpointError: they are not.
        """
        now = marks_of(self.place.folder, subject=str(self.place))
        files, links = now.files.items() ^ self.marks.files.items(), now.links.items() ^ self.marks.links.items()
        changed = sorted(name for name, _ in (*files, *links))
        if changed:
            raise CheckpointError(
                f"{self.place} was changed while it was read (file {changed[0]!r}): load it again once nobody writes "
                "to it, or serve another step"
            )


def check_seal(path: Path, step: int) -> None:
    """Raises UnsealedError if a step has no seal. Does not compare it; `verify` does."""
    place = locate(path, step)
    if not manifest_path(place.folder).exists():
        raise _unsealed(place)


def verify(
    path: Path, *, step: int | None = None, require_seal: bool = False, progress: Progress | None = None
) -> Verified:
    """Reads every file of a checkpoint, and compares it with the seal if there is one.

    Args:
        path: a folder of steps, or one checkpoint.
        step: the step; None means the newest that is committed.
        require_seal: whether to refuse a checkpoint without a seal.
        progress: told how many bytes were read just now, and how many will be altogether.

    Raises:
        DamagedError: it is not what was sealed; the message names the files.
        UnsealedError: it has no seal, and one is required.
        CheckpointError: there is no such checkpoint, or it cannot be read.
    """
    place = locate(path, step)
    subject = str(place)
    manifest = read_manifest(place.folder, subject=subject)
    if manifest is None and require_seal:
        raise _unsealed(place)
    marks = marks_of(place.folder, subject=subject)
    files = digests_of(place.folder, marks.files, subject=subject, progress=progress)
    found = Manifest(files=files, links=marks.links)
    if manifest is not None:
        manifest.require(found, subject=subject)
    return Verified(place=place, content=found, sealed=manifest is not None, marks=marks)


def _unsealed(place: Place) -> UnsealedError:
    command = shlex.join(["fluoroscope-server", "seal", str(place.path), *([str(place.step)] * place.is_series)])
    return UnsealedError(
        f"{place} is not sealed, so that damage would go unnoticed; once you know it to be whole: {command}"
    )
