from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fluoroscope.cli.unreadable import unreadable

if TYPE_CHECKING:
    from pathlib import Path


def message_of(path: Path) -> str:
    with pytest.raises(OSError, match=r"^\[Errno") as raised:
        path.read_bytes()
    return unreadable(path, raised.value).message


def test_what_is_like_it_is_named(tmp_path: Path) -> None:
    for name in ("digits.npy", "digit.npz", "labels.npy", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "digits").mkdir()  # no file
    message = message_of(tmp_path / "digit.npy")
    beside = f"nearest in {tmp_path}: digits.npy, digit.npz."
    assert message == f"{tmp_path / 'digit.npy'} cannot be read: No such file or directory; {beside}"


def test_nothing_is_like_it(tmp_path: Path) -> None:
    assert message_of(tmp_path / "x").endswith(f"No such file or directory; {tmp_path} has no file.")
    (tmp_path / "weights.bin").touch()
    assert message_of(tmp_path / "x.npy").endswith(f"; {tmp_path} has no file *.npy.")
    (tmp_path / "labels.npy").touch()
    assert message_of(tmp_path / "x.npy").endswith(f"; nearest in {tmp_path}: labels.npy.")


def test_its_folder_is_not_there(tmp_path: Path) -> None:
    message = message_of(tmp_path / "runs" / "x.npy")
    assert message.endswith(f"No such file or directory; {tmp_path / 'runs'} is no folder that can be read, either.")


def test_it_is_there_and_is_no_file(tmp_path: Path) -> None:
    assert message_of(tmp_path) == f"{tmp_path} cannot be read: Is a directory."
