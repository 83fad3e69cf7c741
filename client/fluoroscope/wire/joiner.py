"""The receiving end of a stream: messages in, whole results out, nothing wrong unnoticed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from fluoroscope.wire.arrived import Arrived
from fluoroscope.wire.errors import CorruptError, IncompleteError
from fluoroscope.wire.frame import parse_frame, read_plain_chunk
from fluoroscope.wire.partial import PartialTensor
from fluoroscope.wire.result import ExpectedResult, StreamResult

if TYPE_CHECKING:
    from fluoroscope.v1.inspection_pb2 import InspectActivationsResponse, StreamHeader, StreamTrailer, Summary

_CHECKSUM_OF_SUMMARY: Final = 0


@final
class StreamJoiner:
    """Joins the messages of one `InspectActivations` stream to results.

    Feed it each message as it comes, and call `finish` when the stream has ended. Each payload is
    copied once, into its place in the array. Between results it keeps a checksum of each, not its
    values: it holds no more than the one tensor that is on its way.
    """

    __slots__ = (
        "_byte_count",
        "_checksums",
        "_chunk_count",
        "_expected",
        "_header",
        "_partial",
        "_trailer",
    )

    def __init__(self) -> None:
        self._header: StreamHeader | None = None
        self._trailer: StreamTrailer | None = None
        self._expected: tuple[ExpectedResult, ...] = ()
        self._checksums: list[int] = []
        self._chunk_count = 0
        self._byte_count = 0
        self._partial: PartialTensor | None = None

    @property
    def header(self) -> StreamHeader | None:
        """Returns the header, or None while it has not come."""
        return self._header

    @property
    def trailer(self) -> StreamTrailer | None:
        """Returns the trailer, or None while it has not come. With it all checksums are confirmed."""
        return self._trailer

    @property
    def byte_count(self) -> int:
        """Returns how many bytes of tensor data have come."""
        return self._byte_count

    def feed(self, message: bytes) -> StreamResult | None:
        """Takes the next message; returns the result that it completes, if it completes one.

        Raises:
            CorruptError: The message is not one that may come here, or contradicts the header, or is
                a trailer whose checksums are not those of what came.
        """
        chunk = read_plain_chunk(message)
        if chunk is not None:
            return self._chunk(*chunk)
        frame = parse_frame(message)
        match frame.WhichOneof("frame"):
            case "chunk":
                return self._chunk(frame.chunk.result, frame.chunk.offset, memoryview(frame.chunk.data))
            case "summary":
                return self._summary(frame.summary)
            case "header":
                self._open(frame)
            case "trailer":
                self._close(frame.trailer)
            case None:
                raise CorruptError("a message with none of header, chunk, summary and trailer came")
        return None

    def finish(self) -> StreamTrailer:
        """Returns the trailer, when the stream has ended.

        Raises:
            IncompleteError: No trailer came; the message says what did and what did not.
        """
        if self._trailer is None:
            raise IncompleteError(f"the stream ended without its trailer: {self.progress()}")
        return self._trailer

    def progress(self) -> Arrived:
        """Returns what has come so far and what has not; as text, for the end of a message."""
        names = [expected.header.output or expected.header.site for expected in self._expected]
        whole = len(self._checksums)
        begun = whole + bool(self._offset)
        return Arrived(
            complete=tuple(names[:whole]),
            partial=names[whole] if self._offset else None,
            partial_bytes=self._offset,
            partial_size=self._expected[whole].header.byte_size if self._offset else 0,
            missing=tuple(names[begun:]),
            where=str(self._expected[whole]) if whole < len(names) else "",
            announced=self._header is not None,
        )

    @property
    def _offset(self) -> int:
        return self._partial.offset if self._partial is not None else 0

    def _open(self, frame: InspectActivationsResponse) -> None:
        if self._header is not None:
            raise CorruptError("a second header came; the header comes once")
        self._expected = tuple(
            ExpectedResult.announced(index, result) for index, result in enumerate(frame.header.results)
        )
        self._header = frame.header

    def _next(self, index: int, what: str) -> ExpectedResult:
        """Returns the result that is due, having checked that it is the one that came."""
        if self._trailer is not None:
            raise CorruptError(f"a {what} of result {index} came after the trailer, which comes last")
        if self._header is None:
            raise CorruptError(f"a {what} of result {index} came before the header, which comes first")
        due = len(self._checksums)
        if index >= len(self._expected):
            raise CorruptError(f"a {what} of result {index} came; the header announces {len(self._expected)} results")
        if index < due:
            raise CorruptError(f"a {what} of {self._expected[index]} came again, after it was complete")
        if index > due:
            raise CorruptError(
                f"a {what} of {self._expected[index]} came at offset {self._offset} of "
                f"{self._expected[due]}, which is not complete: results come in the order of the header"
            )
        return self._expected[due]

    def _chunk(self, index: int, offset: int, data: memoryview) -> StreamResult | None:
        expected = self._next(index, "chunk")
        if expected.dtype is None:
            raise CorruptError(f"a chunk came for {expected}; expected its summary")
        partial = self._partial
        if partial is None:
            partial = self._partial = PartialTensor(expected)
        complete = partial.take(offset, data)
        self._byte_count += len(data)
        self._chunk_count += 1
        if not complete:
            return None
        result = partial.result()
        self._checksums.append(partial.checksum)
        self._partial = None
        return result

    def _summary(self, summary: Summary) -> StreamResult:
        expected = self._next(summary.result, "summary")
        if expected.dtype is not None:
            raise CorruptError(f"a summary came for {expected}; expected a chunk at offset {self._offset}")
        self._checksums.append(_CHECKSUM_OF_SUMMARY)
        return StreamResult(index=expected.index, header=expected.header, array=None, summary=summary)

    def _close(self, trailer: StreamTrailer) -> None:
        if self._trailer is not None:
            raise CorruptError("a second trailer came; the trailer comes once, as the last message")
        if self._header is None or len(self._checksums) < len(self._expected):
            raise CorruptError(f"the trailer came too early: {self.progress()}")
        if len(trailer.checksums) != len(self._expected):
            raise CorruptError(f"the trailer has {len(trailer.checksums)} checksums; expected {len(self._expected)}")
        for expected, said, found in zip(self._expected, trailer.checksums, self._checksums, strict=True):
            if said != found:
                raise CorruptError(f"{expected} is corrupt: its checksum is {found:016x}, the server's {said:016x}")
        for what, said, found in (
            ("chunks", trailer.chunk_count, self._chunk_count),
            ("bytes", trailer.byte_count, self._byte_count),
        ):
            if said != found:
                raise CorruptError(f"the server sent {said} {what}, {found} came")
        self._trailer = trailer
