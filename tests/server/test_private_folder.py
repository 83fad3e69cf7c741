"""A folder whose content is trusted: whose it is, and who may write to it."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from fluoroscope_server.errors import SettingsError
from fluoroscope_server.private_folder import private_folder

if TYPE_CHECKING:
    from pathlib import Path


def test_it_is_made_for_this_user_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        made = private_folder(tmp_path / "a" / "b")
    finally:
        os.umask(before)
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert private_folder(made) == made


def test_one_that_others_can_only_read_will_do(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    assert private_folder(tmp_path) == tmp_path


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o1777])
def test_one_that_others_can_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    message = f"^others can write to {tmp_path}, whose mode is {mode:04o}: what lies in it runs as code .*: chmod go-w"
    with pytest.raises(SettingsError, match=message):
        private_folder(tmp_path)


def test_one_that_others_can_write_to_is_refused_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    (tmp_path / "mine").symlink_to(tmp_path / "shared")
    with pytest.raises(SettingsError, match="others can write"):
        private_folder(tmp_path / "mine")


def test_one_that_somebody_else_owns_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, other = os.geteuid(), os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    with pytest.raises(SettingsError, match=f"belongs to user {owner}, and this server runs as user {other}"):
        private_folder(tmp_path)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="file cannot be used: File exists"):
        private_folder(tmp_path / "file")
    with pytest.raises(SettingsError, match="cannot be used: Not a directory"):
        private_folder(tmp_path / "file" / "below")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_one_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(SettingsError, match="cannot be used: this server may not write to it"):
        private_folder(tmp_path)
    with pytest.raises(SettingsError, match="cannot be used: Permission denied"):
        private_folder(tmp_path / "below")
