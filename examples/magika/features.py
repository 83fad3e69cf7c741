"""What the network reads of a file: 2048 integers, from the file's first and last bytes.

The rules are those of the model's config in the `magika` package. NumPy only: this file runs where
the client runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

BEGIN_SIZE = 1024
"""How many tokens come from the beginning of the file."""

END_SIZE = 1024
"""How many tokens come from its end."""

BLOCK_SIZE = 4096
"""How many bytes are read at each end, before white space is stripped."""

PADDING = 256
"""The token where there is no byte."""

LEAST_BYTES = 8
"""With fewer bytes than this, leading white space apart, the network is not asked."""


class TooShortError(ValueError):
    """The file has too few bytes for the network to say anything."""


def tokens_of_file(path: Path) -> npt.NDArray[np.int32]:
    """Returns the tokens of the file at `path`, int32 of shape `(2048,)`.

    Raises:
        TooShortError: if the file has fewer than `LEAST_BYTES` bytes.
    """
    with path.open("rb") as stream:
        return tokens_of_stream(stream)


def tokens_of_stream(stream: BinaryIO) -> npt.NDArray[np.int32]:
    """Returns the tokens of a seekable stream, int32 of shape `(2048,)`; reads at most 8 KiB of it.

    Raises:
        TooShortError: if the stream has fewer than `LEAST_BYTES` bytes.
    """
    first = stream.read(BLOCK_SIZE)
    size = stream.seek(0, 2)
    stream.seek(max(0, size - BLOCK_SIZE))
    last = stream.read(BLOCK_SIZE)
    begin = first.lstrip()[:BEGIN_SIZE]
    end = last.rstrip()[-END_SIZE:]
    if len(begin) < LEAST_BYTES:
        raise TooShortError(f"{len(begin)} bytes after leading white space; the network needs {LEAST_BYTES}")
    tokens = np.full(BEGIN_SIZE + END_SIZE, PADDING, np.int32)
    # The padding is in the middle: after a short beginning, before a short end.
    tokens[: len(begin)] = np.frombuffer(begin, np.uint8)
    tokens[len(tokens) - len(end) :] = np.frombuffer(end, np.uint8)
    return tokens
