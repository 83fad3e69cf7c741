"""A tensor of which some chunks have come."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import numpy as np

from fluoroscope.wire.checksum import Checksum
from fluoroscope.wire.errors import CorruptError, WireError
from fluoroscope.wire.result import StreamResult
from fluoroscope.wire.tensor import check_bytes

if TYPE_CHECKING:
    from fluoroscope.wire.result import ExpectedResult


@final
class PartialTensor:
    """Puts the chunks of one tensor into its array, each payload copied once, in order and none twice."""

    __slots__ = ("_array", "_buffer", "_checksum", "_expected", "_size", "offset")

    def __init__(self, expected: ExpectedResult) -> None:
        self._expected = expected
        self._array = expected.empty()
        self._buffer = self._array.reshape(-1).view(np.uint8).data
        self._checksum = Checksum()
        self._size = expected.header.byte_size
        self.offset = 0
        """How many bytes have come, from the first on."""

    def take(self, offset: int, data: memoryview) -> bool:
        """Puts the next chunk in its place; returns whether the tensor is complete with it.

        Raises:
            CorruptError: It is not the chunk that comes next.
        """
        end = offset + len(data)
        self._check(offset, end)
        self._buffer[offset:end] = data
        self._checksum.update(data)
        self.offset = end
        return end == self._size

    @property
    def checksum(self) -> int:
        """Returns the checksum of the bytes that have come."""
        return self._checksum.value

    def result(self) -> StreamResult:
        """Returns the complete tensor.

        Raises:
            CorruptError: A byte of it stands for no element of its dtype.
        """
        try:
            check_bytes(self._array)
        except WireError as error:
            raise CorruptError(f"{self._expected}: {error}") from None
        return StreamResult(index=self._expected.index, header=self._expected.header, array=self._array, summary=None)

    def _check(self, offset: int, end: int) -> None:
        if offset != self.offset:
            which = "came again" if end <= self.offset else "came"
            raise CorruptError(
                f"a chunk of {self._expected} with offset {offset} {which}; expected offset {self.offset}"
            )
        if end > self._size:
            raise CorruptError(f"a chunk ends at byte {end} of {self._expected}, which has {self._size} bytes")
        if offset == end and self._size:
            raise CorruptError(
                f"an empty chunk came at offset {offset} of {self._expected}, which has {self._size} bytes"
            )
