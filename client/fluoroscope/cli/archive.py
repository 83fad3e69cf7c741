"""Arrays in files: `.npy` and `.npz`, written whole or not at all."""

from __future__ import annotations

import json
import os
import struct
import zipfile
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Final, Literal, Self

import numpy as np

from fluoroscope.wire import DTYPES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path
    from types import TracebackType

DTYPES_KEY: Final = "__dtypes__"
"""The entry of an archive that says, as JSON, what the dtypes of arrays are that NumPy's files cannot hold."""

_LENGTHS = 26  # where in a local header of a zip file the lengths of the name and of the rest of the header are
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class ArchiveWriter:
    """Writes arrays into an `.npz` one by one, so that no more than one is held.

    NumPy's files know no bfloat16, float8 or int4: such an array is stored as unsigned integers of the
    same bits, and the entry `__dtypes__` says what it is. In Python:

        stored = np.load("acts.npz")
        dtypes = json.loads(stored["__dtypes__"].item())
        stored["Dense_0"].view(getattr(ml_dtypes, dtypes["Dense_0"]))
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_STORED)
        self.dtypes: dict[str, str] = {}
        """The dtype of each array that is stored as integers, by its key."""

    def add(self, key: str, array: np.ndarray) -> None:
        """Writes one array."""
        if array.dtype.kind == "V" or array.dtype.name.startswith("float8"):
            self.dtypes[key] = array.dtype.name
            array = array.view(np.dtype(f"u{array.dtype.itemsize}"))
        self._write(key, array)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Completes the archive."""
        if error is None and self.dtypes:
            self._write(DTYPES_KEY, np.array(json.dumps(self.dtypes)))
        self._zip.close()

    def _write(self, key: str, array: np.ndarray) -> None:
        with self._zip.open(f"{key}.npy", "w", force_zip64=True) as entry:
            np.lib.format.write_array(entry, np.asanyarray(array), allow_pickle=False)


@contextmanager
def reading() -> Iterator[None]:
    """Makes one error of all that NumPy's readers raise; a decorator, too.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is damaged, holds Python objects, or is none of NumPy's.
    """
    try:
        yield
    except (OSError, ValueError):
        raise
    except Exception as error:  # noqa: BLE001  # of damaged data they raise whatever zlib, tokenize and the like do
        raise ValueError(str(error) or type(error).__name__) from None


@reading()
def read_archive(file: IO[bytes]) -> dict[str, np.ndarray]:
    """Returns the arrays of an `.npz` by key, in the dtypes that `__dtypes__` gives them.

    Raises:
        ValueError: It is no such archive, or holds Python objects.
    """
    with np.load(file, allow_pickle=False) as stored:
        arrays = {key: stored[key] for key in stored.files}
    said = arrays.pop(DTYPES_KEY, None)
    for key, dtype in _dtypes(said, arrays).items():
        arrays[key] = arrays[key].view(dtype)
    return arrays


def _dtypes(said: np.ndarray | None, keys: Collection[str]) -> dict[str, np.dtype]:
    """Returns the dtypes that the entry `__dtypes__` gives, by key."""
    known = {dtype.name: dtype for dtype in DTYPES.values()}
    names = {} if said is None else json.loads(said.item())
    for key, name in names.items():
        if key not in keys or name not in known:
            raise ValueError(f"{DTYPES_KEY} says that {key!r} is {name!r}: there is no such array, or no such dtype")
    return {key: known[name] for key, name in names.items()}


class ArchiveReader:
    """Reads arrays from an `.npz` one by one; one that is not compressed is mapped, and read where it is used.

    Raises:
        ValueError: It is no such archive, or an array holds Python objects.
    """

    @reading()
    def __init__(self, path: Path) -> None:
        self.path = path
        """Where it is."""
        with zipfile.ZipFile(path) as archive:
            self._entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
        said = self._entries.pop(DTYPES_KEY, None)
        self._dtypes = _dtypes(None if said is None else self._array(said), self._entries)

    @property
    def keys(self) -> list[str]:
        """Returns the names of the arrays."""
        return list(self._entries)

    @reading()
    def read(self, key: str) -> np.ndarray:
        """Returns an array, in the dtype that `__dtypes__` gives it."""
        entry = self._entries[key]
        array = self._mapped(entry) if entry.compress_type == zipfile.ZIP_STORED else None
        array = self._array(entry) if array is None else array
        return array.view(self._dtypes[key]) if key in self._dtypes else array

    def _array(self, entry: zipfile.ZipInfo) -> np.ndarray:
        with zipfile.ZipFile(self.path) as archive, archive.open(entry) as file:
            array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
        return array

    def _mapped(self, entry: zipfile.ZipInfo) -> np.ndarray | None:
        """Returns an array that stays in the file; None if it cannot."""
        with self.path.open("rb") as file:
            file.seek(entry.header_offset + _LENGTHS)
            file.seek(sum(struct.unpack("<HH", file.read(4))), os.SEEK_CUR)
            version = np.lib.format.read_magic(file)
            if version not in _HEADERS:
                return None
            shape, fortran, dtype = _HEADERS[version](file)
            if dtype.hasobject or 0 in shape:
                return None
            order: Literal["F", "C"] = "F" if fortran else "C"
            return np.memmap(self.path, dtype, "r", offset=file.tell(), shape=shape, order=order)


@contextmanager
def replaced(path: Path) -> Iterator[IO[bytes]]:
    """Opens a file that takes the place of `path` when all went well; else nothing has happened to it.

    Raises:
        OSError: It cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
