"""What one reduction of one site brought: numbers, or one or more tensors."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Any, final

import numpy as np

from fluoroscope.calls.errors import CorruptStreamError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fluoroscope.v1.inspection_pb2 import ResultHeader
    from fluoroscope.wire import StreamResult


@final
class Parts:
    """The results of one reduction of one site, by their names."""

    def __init__(self, results: Sequence[StreamResult]) -> None:
        self._results = {result.header.part: result for result in results}
        self.header: ResultHeader = results[0].header
        """The announcement of the first: all say the same of the value."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Returns the shape of the value that was reduced."""
        return tuple(self.header.value_shape)

    @property
    def sample_count(self) -> int:
        """Returns how many samples the units, the last axis of the value, have."""
        return int(np.prod(self.shape[:-1], dtype=np.int64))

    def sent(self, name: str = "") -> tuple[np.ndarray, np.float32 | None]:
        """Returns a tensor as it was sent, and its scale if it was cast to int8.

        Raises:
            CorruptStreamError: It has not come.
        """
        scale = self._results.get(f"{name}_scale" if name else "scale")
        array = self._array(name if name or scale is None else "value")
        return array, None if scale is None or scale.array is None else np.float32(scale.array)

    def tensor(self, name: str = "") -> np.ndarray:
        """Returns a tensor; what was cast to int8 is float32 again.

        Raises:
            CorruptStreamError: It has not come.
        """
        array, scale = self.sent(name)
        if scale is None:
            return array
        return np.asarray(array.astype(np.float32) * scale)  # of one number NumPy makes a scalar

    def numbers(self, name: str) -> Any:
        """Returns a few numbers as the message of this field of `Summary`.

        Raises:
            CorruptStreamError: They have not come.
        """
        for result in self._results.values():
            if result.summary is not None and result.summary.WhichOneof("summary") == name:
                return getattr(result.summary, name)
        raise CorruptStreamError(f"no {name} of {self._source!r} came, which were asked for. Ask again.")

    def _array(self, name: str) -> np.ndarray:
        result = self._results.get(name)
        if result is None or result.array is None:
            what = f"tensor {name!r}" if name else "tensor"
            raise CorruptStreamError(f"no {what} of {self._source!r} came, which was asked for. Ask again.")
        return result.array

    @property
    def _source(self) -> str:
        return self.header.output or self.header.site


def last_parts(headers: Sequence[ResultHeader]) -> Iterator[bool]:
    """Yields for each result of a stream whether it is the last part of its reduction."""
    names: set[str] = set()
    for header, following in zip_longest(headers, headers[1:]):
        names.add(header.part)
        last = (
            following is None
            or not header.part
            or following.part in {"", *names}
            or (following.site, following.output) != (header.site, header.output)
            or following.reduction != header.reduction
        )
        if last:
            names.clear()
        yield last
