"""The checksum of a streamed tensor: XXH3, 64 bits, seed 0."""

from __future__ import annotations

from typing import final

import xxhash


@final
class Checksum:
    """A checksum of bytes that come in pieces: the same number however they are cut."""

    __slots__ = ("_hash",)

    def __init__(self) -> None:
        self._hash = xxhash.xxh3_64()

    def update(self, data: bytes | memoryview) -> None:
        """Adds the next bytes."""
        self._hash.update(data)

    @property
    def value(self) -> int:
        """Returns the checksum of all bytes so far, as in `StreamTrailer.checksums`."""
        return self._hash.intdigest()
