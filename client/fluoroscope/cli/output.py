"""Arrays that a command writes to a file instead of printing them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import click
import numpy as np

from fluoroscope.cli.archive import DTYPES_KEY, ArchiveWriter, replaced

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import IO


class Writer(Protocol):
    """What arrays are written to."""

    def add(self, key: str, array: np.ndarray) -> None:
        """Writes one array."""


@contextmanager
def writing(path: Path) -> Iterator[Writer]:
    """Opens a file for arrays; it takes the place of `path` when all went well.

    Raises:
        click.UsageError: The name ends in neither .npz nor .npy, the file cannot be written, or an array
            cannot be in such a file.
    """
    if path.suffix not in {".npz", ".npy"}:
        raise click.UsageError(f"--output {path}: the name must end in .npz, or in .npy for a single array.")
    try:
        with replaced(path) as file:
            if path.suffix == ".npy":
                yield _Single(file)
                return
            with ArchiveWriter(file) as archive:
                yield archive
    except OSError as error:
        raise click.UsageError(f"--output {path}: {error.strerror or error}.") from None
    if archive.dtypes:
        names = ", ".join(sorted(set(archive.dtypes.values())))
        click.echo(
            f"{path}: NumPy's files have no {names}; {len(archive.dtypes)} arrays are stored as unsigned integers of "
            f"the same bits, and the entry {DTYPES_KEY} says which are what: array.view(ml_dtypes.NAME).",
            err=True,
        )


class _Single:
    """Writes the only array of an `.npy`."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._key: str | None = None

    def add(self, key: str, array: np.ndarray) -> None:
        if self._key is not None:
            raise click.UsageError(f".npy holds one array; there are {self._key}, {key}, ...: write .npz.")
        if array.dtype.kind == "V" or array.dtype.name.startswith("float8"):
            raise click.UsageError(f"{key} is {array.dtype}, which .npy cannot hold: write .npz.")
        self._key = key
        np.lib.format.write_array(self._file, np.asanyarray(array), allow_pickle=False)
