"""One result of a stream: what the header announces, and the value that came for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fluoroscope.v1.tensor_pb2 import DataType
from fluoroscope.wire.dtype import dtype_from_wire
from fluoroscope.wire.errors import CorruptError, WireError
from fluoroscope.wire.shape import byte_size, read_shape, show_shape

if TYPE_CHECKING:
    from fluoroscope.v1.inspection_pb2 import ResultHeader, Summary


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamResult:
    """A result that came whole. Until the trailer has come, nothing has confirmed its checksum."""

    index: int
    """Its place in the header, counting from 0."""

    header: ResultHeader
    """What the header says of it."""

    array: np.ndarray | None
    """The value, writable and row-major; None if the result is a summary."""

    summary: Summary | None
    """The numbers; None if the result is a tensor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedResult:
    """A result that the header announces, checked: no array is made for a header that contradicts itself."""

    index: int
    """Its place in the header, counting from 0."""

    header: ResultHeader
    """The announcement itself."""

    dtype: np.dtype | None
    """The type of each element; None if the result is a summary."""

    shape: tuple[int, ...]
    """The size of each axis; empty if the result is a summary."""

    @classmethod
    def announced(cls, index: int, header: ResultHeader) -> ExpectedResult:
        """Checks the announcement of a result.

        Raises:
            CorruptError: The type is unknown, the shape impossible, or `byte_size` is not what they say.
        """
        dtype: np.dtype | None = None
        shape: tuple[int, ...] = ()
        size = 0
        try:
            if header.data_type != DataType.DATA_TYPE_UNSPECIFIED:
                dtype, shape = dtype_from_wire(header.data_type), read_shape(header.shape)
                size = byte_size(dtype, shape)
        except WireError as error:
            raise CorruptError(f"the header announces {_named(index, header)} wrongly: {error}") from None
        if size != header.byte_size:
            raise CorruptError(
                f"the header announces {header.byte_size} bytes for {_named(index, header)}, "
                f"but its dtype and shape {show_shape(header.shape)} make {size}"
            )
        return cls(index=index, header=header, dtype=dtype, shape=shape)

    def empty(self) -> np.ndarray:
        """Returns a new array of the announced dtype and shape, with no values yet.

        Raises:
            CorruptError: This machine cannot hold such an array.
        """
        try:
            return np.empty(self.shape, self.dtype)
        except MemoryError as error:
            raise CorruptError(f"no array can be made for {self}: {error}") from None

    def __str__(self) -> str:
        """Returns the result for people: `site 'Dense_0' (result 3)`."""
        return _named(self.index, self.header)


def _named(index: int, header: ResultHeader) -> str:
    source = header.WhichOneof("source")
    if source is None:
        return f"result {index}"
    name = header.site if source == "site" else header.output
    return f"{source} {name!r} (result {index})"
