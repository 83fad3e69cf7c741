from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fluoroscope.cli.archive import ArchiveReader, ArchiveWriter, read_archive, replaced
from fluoroscope.wire.dtype import DTYPES

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
@pytest.mark.parametrize("shape", [(), (0, 2), (2, 3)], ids=str)
def test_every_dtype_comes_back_as_it_went(dtype: np.dtype, shape: tuple[int, ...]) -> None:
    array = np.ones(shape).astype(dtype)
    file = io.BytesIO()
    with ArchiveWriter(file) as archive:
        archive.add("layers_3/attn/softmax:0", array)
    back = read_archive(io.BytesIO(file.getvalue()))["layers_3/attn/softmax:0"]

    assert (back.dtype, back.shape, back.tobytes()) == (dtype, shape, array.tobytes())


def test_an_archive_of_plain_arrays_is_numpys_own() -> None:
    file = io.BytesIO()
    with ArchiveWriter(file) as archive:
        archive.add("a", np.arange(3))

    with np.load(io.BytesIO(file.getvalue())) as stored:
        assert stored.files == ["a"]
    assert not archive.dtypes


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")

    def write_half() -> None:
        with replaced(path) as file:
            file.write(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        write_half()
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_no_archive() -> None:
    with pytest.raises(ValueError, match=r"not a zip file"):
        read_archive(io.BytesIO(b"PK\x03\x04"))


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
@pytest.mark.parametrize("shape", [(), (0, 2), (2, 3)], ids=str)
def test_arrays_are_read_one_by_one(dtype: np.dtype, shape: tuple[int, ...], tmp_path: Path) -> None:
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    with (tmp_path / "x.npz").open("wb") as file, ArchiveWriter(file) as archive:
        archive.add("layers_3/attn/softmax:0", array)
        archive.add("other", np.asfortranarray(np.ones((2, 3))))
    reader = ArchiveReader(tmp_path / "x.npz")
    back = reader.read("layers_3/attn/softmax:0")

    assert reader.keys == ["layers_3/attn/softmax:0", "other"]
    assert (back.dtype, back.shape, back.tobytes()) == (dtype, shape, array.tobytes())
    assert np.array_equal(reader.read("other"), np.ones((2, 3)))


def test_only_what_is_not_compressed_stays_in_the_file(tmp_path: Path) -> None:
    for name, save in (("plain", np.savez), ("small", np.savez_compressed)):
        save(tmp_path / name, x=np.arange(6.0).reshape(2, 3))
        back = ArchiveReader(tmp_path / f"{name}.npz").read("x")
        assert isinstance(back, np.memmap) is (name == "plain")
        assert np.array_equal(back, np.arange(6.0).reshape(2, 3))


def test_what_is_no_archive_of_numbers_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_bytes(b"PK, but no archive")
    with pytest.raises(ValueError, match="not a zip file"):
        ArchiveReader(tmp_path / "text.npz")
    np.savez(tmp_path / "objects.npz", x=np.array([None]))
    with pytest.raises(ValueError, match="Object arrays cannot be loaded"):
        ArchiveReader(tmp_path / "objects.npz").read("x")


def test_compressed_data_that_is_damaged(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", x=np.arange(6.0))
    data = bytearray((tmp_path / "x.npz").read_bytes())
    data[30 + data[26] + data[28]] = 0xFF  # the first byte behind the entry's header, its name and the rest of it
    (tmp_path / "x.npz").write_bytes(data)

    with pytest.raises(ValueError, match="invalid block type"):
        read_archive(io.BytesIO(data))
    with pytest.raises(ValueError, match="invalid block type"):
        ArchiveReader(tmp_path / "x.npz").read("x")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"y": "bfloat16"}, "says that 'y' is 'bfloat16': there is no such array"),
        ({"x": "bfloat17"}, "says that 'x' is 'bfloat17': there is no such array, or no such dtype"),
        (["x"], "'list' object has no attribute"),
    ],
)
def test_dtypes_that_are_none(tmp_path: Path, said: object, message: str) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros(2, np.uint16), __dtypes__=np.array(json.dumps(said)))

    with pytest.raises(ValueError, match=message):
        read_archive(io.BytesIO((tmp_path / "x.npz").read_bytes()))
    with pytest.raises(ValueError, match=message):
        ArchiveReader(tmp_path / "x.npz")
