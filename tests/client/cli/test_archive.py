from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fluoroscope.cli.archive import ArchiveWriter, read_archive, replaced
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
