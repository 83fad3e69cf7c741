"""Chunks of a stream as bytes, written and read around the payload.

A protobuf object for a chunk costs three copies of its payload: into the object, into the serialized
message, and out of the parsed one. So the few bytes in front of the payload are written and read here:

    12 LEN            InspectActivationsResponse.chunk
       08 VARINT      Chunk.result, left out when 0
       10 VARINT      Chunk.offset, left out when 0
       1a LEN data    Chunk.data, left out when empty

That is what protobuf's own serializers write, so any client in any language reads it; what any other
server writes is read here too, through protobuf's parser if it has another form.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError

from fluoroscope.v1.inspection_pb2 import InspectActivationsResponse
from fluoroscope.wire.errors import CorruptError
from fluoroscope.wire.varint import decode_varint, encode_varint

_CHUNK = 0x12
_RESULT = 0x08
_OFFSET = 0x10
_DATA = 0x1A


def chunk_frame(result: int, offset: int, data: bytes | memoryview) -> bytes:
    """Returns the bytes of an `InspectActivationsResponse` whose `chunk` is set; copies `data` once.

    `data` is contiguous and its items are single bytes, as `tensor_bytes` gives it.
    """
    fields = b""
    if result:
        fields = b"\x08" + encode_varint(result)
    if offset:
        fields += b"\x10" + encode_varint(offset)
    if len(data):
        fields += b"\x1a" + encode_varint(len(data))
    return b"".join((b"\x12", encode_varint(len(fields) + len(data)), fields, data))


def parse_frame(message: bytes) -> InspectActivationsResponse:
    """Returns the message that protobuf's own parser reads.

    Raises:
        CorruptError: The message is no `InspectActivationsResponse`.
    """
    try:
        return InspectActivationsResponse.FromString(message)
    except DecodeError as error:
        raise CorruptError(f"a message of {len(message)} bytes is no InspectActivationsResponse: {error}") from None


def read_plain_chunk(message: bytes) -> tuple[int, int, memoryview] | None:
    """Returns the result, the offset and the payload of a chunk in the plain form, and None for all else.

    The payload is a view into `message`, which nothing copies. All else is for `parse_frame`: other frames, chunks in
    another form, and what is no message.
    """
    try:
        return _read_plain_chunk(message)
    except (IndexError, OverflowError):
        return None  # not even a message: protobuf's parser says what is wrong with it


def _read_plain_chunk(message: bytes) -> tuple[int, int, memoryview] | None:
    end = len(message)
    if not end or message[0] != _CHUNK:
        return None
    length, place = decode_varint(message, 1)
    if place + length != end:
        return None
    result = offset = 0
    if place < end and message[place] == _RESULT:
        result, place = decode_varint(message, place + 1)
    if place < end and message[place] == _OFFSET:
        offset, place = decode_varint(message, place + 1)
    if place < end and message[place] == _DATA:
        length, place = decode_varint(message, place + 1)
        if place + length == end and result < 1 << 32:
            return result, offset, memoryview(message)[place:]
        return None
    return (result, offset, memoryview(b"")) if place == end and result < 1 << 32 else None
