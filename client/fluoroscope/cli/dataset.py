"""The data set of `--dataset`: arrays of many examples, sent in batches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import numpy as np

from fluoroscope.cli.archive import ArchiveReader, reading
from fluoroscope.cli.fit import fit
from fluoroscope.cli.source import split_key
from fluoroscope.cli.table import shape_cell
from fluoroscope.cli.unreadable import unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fluoroscope.calls import Model, Slice, TensorSpec

DATASET: Final = """--dataset FILE sends many examples, batch by batch, and reduces them as one. FILE is one of
  x.npz        an array for each input of the model, by its name
  x.npz:KEY    one of several arrays, for a model of one input
  x.npy        an array, for a model of one input"""
"""How a data set is given, for help texts."""

_ARCHIVE: Final = b"PK"
_ARRAY: Final = b"\x93NUMPY"
"""How the two kinds of files begin."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DataSet:
    """The inputs of many examples."""

    arrays: Mapping[str, np.ndarray]
    """An array for each input, whose first axis are the examples; mapped from the file where it is not compressed."""

    dtypes: Mapping[str, np.dtype | None]
    """The type in which each is sent; None if the model wants one that this client does not know."""

    rows: int
    """How many examples there are."""

    def taken(self, cut: Slice) -> DataSet:
        """Returns the examples of a slice of the batch axis.

        Raises:
            click.UsageError: There are not all of them, or there is none.
        """
        start, stop = (
            end if given is None else given + (self.rows if given < 0 else 0)
            for given, end in ((cut.start, 0), (cut.stop, self.rows))
        )
        step = 1 if cut.step is None else cut.step
        if step < 1 or not 0 <= start < stop <= self.rows:
            raise click.UsageError(
                f"--slice: the batch axis, {cut.axis}, is the {self.rows:,} examples of the data set, and {start} to "
                f"{stop} by {step} is no part of them."
            )
        arrays = {name: array[start:stop:step] for name, array in self.arrays.items()}
        return replace(self, arrays=arrays, rows=len(range(start, stop, step)))

    def batches(self, size: int) -> Iterator[dict[str, np.ndarray]]:
        """Yields the inputs of so many examples, the last time of those that are left."""
        for start, stop in _bounds(self.rows, size):
            yield {name: array[start:stop].astype(self.dtypes[name]) for name, array in self.arrays.items()}


def _bounds(rows: int, size: int) -> Iterator[tuple[int, int]]:
    """Yields where each batch starts and stops. Of a batch of one, JAX leaves axes away, and so sites: none is left."""
    stops = [*range(size, rows, size), rows]
    if len(stops) > 1 and rows - stops[-2] == 1 and size > 2:
        stops[-2] -= 1
    yield from zip([0, *stops], stops, strict=False)


def read_data_set(source: str, model: Model, *, cast: bool) -> DataSet:
    """Returns the data set of `FILE.npz`, `FILE.npz:KEY` or `FILE.npy`.

    Raises:
        click.UsageError: It cannot be read, does not fit the model, or holds no example.
    """
    path, key = split_key(source)
    arrays = _read(path, key, model)
    for spec in model.inputs:
        _check(arrays[spec.name], spec, cast=cast)
    counts = {name: len(array) for name, array in arrays.items()}
    rows = next(iter(counts.values()))
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        raise click.UsageError(f"the arrays of {path} have not the same number of examples: {said}.")
    if not rows:
        raise click.UsageError(f"{path} holds no example: its arrays have 0 rows.")
    return DataSet(arrays=arrays, dtypes={spec.name: spec.dtype for spec in model.inputs}, rows=rows)


def _read(path: str, key: str | None, model: Model) -> dict[str, np.ndarray]:
    only = model.inputs[0].name if len(model.inputs) == 1 else None
    try:
        with Path(path).open("rb") as file:
            start = file.read(len(_ARRAY))
        if start.startswith(_ARCHIVE):
            return _entries(ArchiveReader(Path(path)), key, only, model)
        if start != _ARRAY:
            raise click.UsageError(f"{path} is no data set: it is neither NumPy's .npz nor .npy.")
        with reading():
            array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise unreadable(path, error) from None
    except ValueError as error:
        raise click.UsageError(f"{path} cannot be read as NumPy's: {error}.") from None
    if only is None:
        names = ", ".join(spec.name for spec in model.inputs)
        raise click.UsageError(f"{path} is one array, and {model.name} has {names}: give an .npz with these names.")
    return {only: array}


def _entries(archive: ArchiveReader, key: str | None, only: str | None, model: Model) -> dict[str, np.ndarray]:
    """Returns the arrays that are the inputs."""
    if key is not None:
        if only is None:
            raise click.UsageError(f":{key} names one array, and {model.name} has {len(model.inputs)} inputs.")
        if key not in archive.keys:
            raise click.UsageError(f"{archive.path} has no {key!r}; it has {', '.join(archive.keys)}.")
        return {only: archive.read(key)}
    names = [spec.name for spec in model.inputs]
    wrong = [f"no input {name!r}" for name in archive.keys if name not in names]
    wrong += [f"{name!r} is missing" for name in names if name not in archive.keys]
    if wrong:
        wanted = "; ".join(map(str, model.inputs))
        hint = f"\nName the array: --dataset {archive.path}:KEY." if only is not None and archive.keys else ""
        raise click.UsageError(f"{archive.path}: {', '.join(wrong)}. The model {model.name} wants {wanted}.{hint}")
    return {name: archive.read(name) for name in names}


def _check(array: np.ndarray, spec: TensorSpec, *, cast: bool) -> None:
    """Refuses an array without a batch axis, or of another dtype; says it if it is converted."""
    if array.ndim != len(spec.shape):
        raise click.UsageError(
            f"the data set's array for {spec.name} is {array.dtype}, {shape_cell(array.shape)}; the model wants {spec}."
        )
    fit(array[:1], spec, cast=cast)
