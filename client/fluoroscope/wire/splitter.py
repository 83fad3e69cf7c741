"""The sending end of a stream: results in, messages out, and the trailer that confirms them."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from fluoroscope.v1.inspection_pb2 import InspectActivationsResponse, StreamTrailer, Summary
from fluoroscope.wire.checksum import Checksum
from fluoroscope.wire.frame import chunk_frame

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from google.protobuf.message import Message

    from fluoroscope.v1.inspection_pb2 import StageTime, StreamHeader


@final
class StreamSplitter:
    """Splits the results of one `InspectActivations` stream into messages, as bytes.

    It numbers the results in the order of the calls, which must be that of the header, and keeps what
    the trailer says of them. What it gives is what `StreamJoiner` takes.
    """

    __slots__ = ("_byte_count", "_checksums", "_chunk_bytes", "_chunk_count")

    def __init__(self, *, chunk_bytes: int) -> None:
        self._chunk_bytes = chunk_bytes
        self._checksums: list[int] = []
        self._chunk_count = 0
        self._byte_count = 0

    @staticmethod
    def header(header: StreamHeader) -> bytes:
        """Returns the first message."""
        return InspectActivationsResponse(header=header).SerializeToString()

    def tensor(self, data: memoryview) -> Iterator[bytes]:
        """Yields the messages of the next result, given its bytes as `tensor_bytes` has them.

        Each message is made when it is asked for. All must be taken before the next result is begun.
        """
        result = len(self._checksums)
        checksum = Checksum()
        for offset in range(0, len(data) or 1, self._chunk_bytes):
            payload = data[offset : offset + self._chunk_bytes]
            message = chunk_frame(result, offset, payload)
            checksum.update(memoryview(message)[len(message) - len(payload) :])  # the copy is what the cache holds
            self._chunk_count += 1
            self._byte_count += len(payload)
            yield message
        self._checksums.append(checksum.value)

    def summary(self, name: str, numbers: Message) -> bytes:
        """Returns the one message of the next result, which is a few numbers.

        Args:
            name: The field of `Summary` that they belong to: `"statistics"`.
            numbers: The message of that field.
        """
        summary = Summary(result=len(self._checksums))
        getattr(summary, name).CopyFrom(numbers)
        self._checksums.append(0)
        return InspectActivationsResponse(summary=summary).SerializeToString()

    def trailer(self, stages: Iterable[StageTime] = ()) -> bytes:
        """Returns the last message."""
        trailer = StreamTrailer(
            checksums=self._checksums,
            chunk_count=self._chunk_count,
            byte_count=self._byte_count,
            stages=stages,
        )
        return InspectActivationsResponse(trailer=trailer).SerializeToString()
