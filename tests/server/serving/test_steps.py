"""What a scan finds: committed steps, which of them were saved anew, and which folders are models."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from fluoroscope_server.errors import CheckpointError
from fluoroscope_server.serving.steps import folders_of_models, scan_models, scan_steps

from .house import damage, write_step

if TYPE_CHECKING:
    from pathlib import Path


def test_steps_that_are_committed(tmp_path: Path) -> None:
    write_step(tmp_path, 3)
    shutil.copytree(tmp_path / "3", tmp_path / "4.orbax-checkpoint-tmp-7")
    (tmp_path / "5").mkdir()
    (found,) = scan_steps(tmp_path).values()
    assert (found.version, found.folder, found.contents) == (3, tmp_path / "3", None)


def test_a_single_checkpoint_is_a_step(tmp_path: Path) -> None:
    write_step(tmp_path, 3)
    shutil.move(tmp_path / "3", tmp_path / "run")
    assert [(step.version, step.folder) for step in scan_steps(tmp_path / "run").values()] == [(0, tmp_path / "run")]


def test_a_step_that_is_saved_anew(tmp_path: Path) -> None:
    folder = write_step(tmp_path, 3)
    before = scan_steps(tmp_path)[3].saved
    assert before
    (folder / "seal.json").write_text("{}")
    assert scan_steps(tmp_path)[3].saved == before, "what is put beside a save makes it no other"
    write_step(tmp_path, 3)
    assert scan_steps(tmp_path)[3].saved != before


def test_a_step_that_is_linked_or_may_be_read_by_others_is_the_same_save(tmp_path: Path) -> None:
    """And one that was refused may be readable now."""
    folder = write_step(tmp_path, 3)
    seen = [scan_steps(tmp_path, closely=[3])[3]]
    shutil.copytree(folder, tmp_path / "backup", copy_function=os.link)
    for file in folder.rglob("*"):
        file.chmod(0o700)
    seen.append(scan_steps(tmp_path, closely=[3])[3])
    assert seen[0].saved == seen[1].saved
    assert seen[0].contents != seen[1].contents


def test_a_step_that_is_looked_into(tmp_path: Path) -> None:
    folder = write_step(tmp_path, 3)
    seen = [scan_steps(tmp_path, closely=[3])[3]]
    assert seen[0] == scan_steps(tmp_path, closely=[3])[3]
    damage(folder)
    seen.append(scan_steps(tmp_path, closely=[3])[3])
    assert seen[0].saved == seen[1].saved
    (tmp_path / "model.toml").write_text("")
    seen.append(scan_steps(tmp_path, closely=[3])[3])
    (folder / "more").write_text("")
    seen.append(scan_steps(tmp_path, closely=[3])[3])
    assert len({step.contents for step in seen}) == len(seen)


def test_what_links_lead_to_is_looked_into(tmp_path: Path) -> None:
    """A step that was refused may be repaired there."""
    folder = write_step(tmp_path, 3)
    blob = (folder / "params").rename(tmp_path / "blob")
    (folder / "params").symlink_to(blob)
    (blob / "up").symlink_to(folder)
    seen = [scan_steps(tmp_path, closely=[3])[3]]
    (blob / "more").write_text("")
    seen.append(scan_steps(tmp_path, closely=[3])[3])
    (folder / "weights").symlink_to("params")
    seen.append(scan_steps(tmp_path, closely=[3])[3])
    (folder / "weights").unlink()
    (folder / "weights").symlink_to("config")
    seen.append(scan_steps(tmp_path, closely=[3])[3])
    assert len({step.contents for step in seen}) == len(seen)


def test_no_folder(tmp_path: Path) -> None:
    assert scan_steps(tmp_path) == {}
    with pytest.raises(CheckpointError, match="there is no such folder"):
        scan_steps(tmp_path / "nowhere")


def test_folders_that_are_models(tmp_path: Path) -> None:
    write_step(tmp_path / "series", 3)
    write_step(tmp_path, 4)
    shutil.move(tmp_path / "4", tmp_path / "single")
    for name in ("described", "empty", "known", ".hidden", "_hidden", "unfinished"):
        (tmp_path / name).mkdir()
    (tmp_path / "described" / "model.toml").write_text("")
    (tmp_path / ".hidden" / "model.toml").write_text("")
    (tmp_path / "unfinished" / "4.orbax-checkpoint-tmp-7").mkdir()
    (tmp_path / "file").write_text("")
    found = scan_models(tmp_path, known=["known", "gone"])
    assert found == {name: tmp_path / name for name in ("described", "known", "series", "single")}
    may_be = ("described", "empty", "known", "series", "single", "unfinished")
    assert folders_of_models(tmp_path) == [tmp_path / name for name in may_be]
    with pytest.raises(FileNotFoundError):
        scan_models(tmp_path / "nowhere")


def test_a_folder_that_cannot_be_read_hides_no_model(tmp_path: Path) -> None:
    """A name that is too long stands for what is another user's: nobody can follow it, not even root."""
    write_step(tmp_path / "net", 3)
    (tmp_path / "away").symlink_to("x" * 300)
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "lost+found" / "model.toml").symlink_to("x" * 300)
    assert list(scan_models(tmp_path)) == ["net"]
    assert list(scan_models(tmp_path, known=["away", "net"])) == ["away", "net"]
