"""The content of folders: every file counts, links are followed, nothing hangs."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fluoroscope_server.checkpoints.digest import FileDigest, digests_of, marks_of
from fluoroscope_server.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

SIZES = st.sampled_from([0, 1, 100, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])


def contents(folder: Path) -> dict[str, FileDigest]:
    return digests_of(folder, marks_of(folder, subject="run").files, subject="run")


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=st.dictionaries(st.sampled_from(["a", "b/c", "b/d", "e/f/g", "model.toml", "b/model.toml"]), SIZES))
def test_digests_are_those_of_sha256(tmp_path_factory: pytest.TempPathFactory, files: dict[str, int]) -> None:
    folder = tmp_path_factory.mktemp("content")
    data = {name: os.urandom(size) for name, size in files.items()}
    for name, each in data.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(each)
    data.pop("model.toml", None)  # the operator's own
    want = {name: FileDigest(byte_size=len(d), sha256=hashlib.sha256(d).hexdigest()) for name, d in data.items()}
    assert contents(folder) == want


def test_progress_adds_up(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_bytes(bytes(3 << 19))
    told: list[tuple[int, int]] = []
    marks = marks_of(tmp_path, subject="")
    digests_of(tmp_path, marks.files, subject="", progress=lambda count, total: told.append((count, total)))
    assert len(told) == 6
    assert {total for _, total in told} == {9 << 19}
    assert sum(count for count, _ in told) == 9 << 19


def test_links_are_followed_once(tmp_path: Path) -> None:
    (tmp_path / "blob").write_text("data")
    folder = tmp_path / "run"
    (folder / "real").mkdir(parents=True)
    (folder / "real" / "file").symlink_to(tmp_path / "blob")
    (folder / "real" / "up").symlink_to(folder)
    (folder / "same").symlink_to("real")
    assert list(contents(folder)) == ["real/file"]
    assert contents(folder)["real/file"].byte_size == 4
    assert marks_of(folder, subject="run").links == {"real/up": ".", "same": "real"}


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="'pipe' in it is neither a file nor a folder"):
        marks_of(tmp_path, subject="run")


def test_a_mark_changes_with_the_file(tmp_path: Path) -> None:
    """Even if somebody puts the time of its last change back."""
    file = tmp_path / "file"
    file.write_text("one")
    before, status = marks_of(tmp_path, subject="run"), file.stat()
    file.write_text("two")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert marks_of(tmp_path, subject="run") != before


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("one")
    marks = marks_of(tmp_path, subject="checkpoint 'run'")
    (tmp_path / "file").unlink()
    with pytest.raises(CheckpointError, match=r"^checkpoint 'run' was deleted while it was read; serve another step$"):
        digests_of(tmp_path, marks.files, subject="checkpoint 'run'")
    with pytest.raises(CheckpointError, match="was deleted while it was read"):
        marks_of(tmp_path / "nowhere", subject="checkpoint 'run'")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A folder in the place of a file stands for a disk that fails: that, too, is an OSError when it is read."""
    (tmp_path / "file").write_text("one")
    marks = marks_of(tmp_path, subject="checkpoint 'run'")
    (tmp_path / "file").unlink()
    (tmp_path / "file").mkdir()
    with pytest.raises(CheckpointError, match=r"^checkpoint 'run' cannot be read: .*file: Is a directory$"):
        digests_of(tmp_path, marks.files, subject="checkpoint 'run'")
