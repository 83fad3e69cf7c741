"""Where the value of an input comes from: a file, standard input, or the command line itself."""

from __future__ import annotations

import io
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import click
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fluoroscope.cli.archive import read_archive, reading
from fluoroscope.cli.unreadable import unreadable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike

STDIN = "-"
"""The file name that means standard input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """Numbers without a dtype of their own, as JSON has them."""

    values: ArrayLike
    """Numbers, nested in lists."""


Value: TypeAlias = np.ndarray | Numbers | Image.Image
"""What one source gives for one input."""


def read_value(text: str, *, name: str) -> Value:
    """Returns the value of `NAME=TEXT`.

    Args:
        text: `@FILE`, `@FILE.npz:KEY`, `@-` or `-`, or JSON.
        name: The input that it is for.

    Raises:
        click.UsageError: It cannot be read, or is nothing that an input can be.
    """
    if not text.startswith("@") and text != STDIN:
        hint = "" if text.startswith("[") else f"\nFor a file, write {name}=@{text}."
        return _numbers(text, what=f"the value of {name}", hint=hint)
    source = text.removeprefix("@")
    path, key = split_key(source)
    loaded = load(path)
    if isinstance(loaded, dict):
        return _entry(loaded, key=key, name=name, path=path)
    if key is not None:
        raise click.UsageError(f"{path} is one value, not an archive: it has no {key!r}.")
    return loaded


def split_key(source: str) -> tuple[str, str | None]:
    """Returns the file and the key of `FILE.npz:KEY`; the key is None where there is none.

    Raises:
        click.UsageError: No file is named.
    """
    if not source:
        raise click.UsageError("no file is named; expected one, such as x.npy.")
    path, colon, key = source.partition(".npz:")
    return (f"{path}.npz", key) if colon else (source, None)


def load(path: str) -> Value | dict[str, np.ndarray]:
    """Returns what a file holds, told by its first bytes: .npy, .npz, an image, upright, or JSON.

    Raises:
        click.UsageError: The file cannot be read, or is none of these.
    """
    data, what = _read(path)
    try:
        if data.startswith(b"\x93NUMPY"):
            with reading():
                array: np.ndarray = np.load(io.BytesIO(data), allow_pickle=False)
            return array
        if data.startswith(b"PK"):
            return read_archive(io.BytesIO(data))
    except (ValueError, OSError) as error:
        raise click.UsageError(f"{what} cannot be read as NumPy's: {error}") from None
    try:
        return ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    except UnidentifiedImageError:
        pass
    except Exception as error:  # noqa: BLE001  # of damaged images, Pillow's readers raise whatever they run into
        raise click.UsageError(f"{what} is an image that cannot be read: {error}") from None
    return _numbers(data.decode("utf-8-sig", "replace"), what=what)


def _read(path: str) -> tuple[bytes, str]:
    what = "standard input" if path == STDIN else path
    if path == STDIN and sys.stdin is None:  # it was closed when the interpreter started
        raise click.UsageError(f"{what} is closed: send a file to it, or name one, as @FILE.")
    try:
        return sys.stdin.buffer.read() if path == STDIN else Path(path).read_bytes(), what
    except OSError as error:
        raise unreadable(what, error) from None


def _numbers(text: str, *, what: str, hint: str = "") -> Numbers:
    try:
        values = json.loads(text, parse_float=lambda number: _finite(number, what=what))
    except (ValueError, RecursionError):
        shown = text if len(text) < 40 else f"{text[:40]}..."
        raise click.UsageError(
            f"{what} is {shown!r}: neither .npy, .npz, an image, nor JSON such as [[0.5, 1], [2, 3]].{hint}"
        ) from None
    if not isinstance(values, bool | int | float | list):
        raise click.UsageError(f"{what} is JSON, but no number and no list of numbers.")
    return Numbers(values=values)


def _finite(number: str, *, what: str) -> float:
    """Returns a number as it was written, which is not `Infinity`."""
    value = float(number)
    if math.isinf(value):
        raise click.UsageError(
            f"{what} has {number}, which is more than a number can be; infinity is written Infinity."
        )
    return value


def _entry(arrays: Mapping[str, np.ndarray], *, key: str | None, name: str, path: str) -> np.ndarray:
    if key is None:
        key = next(iter(arrays)) if len(arrays) == 1 else name
    if key not in arrays:
        raise click.UsageError(f"{path} has no {key!r}; it has {', '.join(arrays)}. Name one: {name}=@{path}:KEY.")
    return arrays[key]
