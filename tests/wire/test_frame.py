from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fluoroscope.v1.inspection_pb2 import (
    Chunk,
    InspectActivationsResponse,
    InspectParametersResponse,
    ResultHeader,
    StreamHeader,
    StreamTrailer,
    Summary,
)
from fluoroscope.v1.tensor_pb2 import DataType
from fluoroscope.wire import CorruptError, StreamJoiner, chunk_frame
from fluoroscope.wire.frame import parse_frame, read_plain_chunk

RESULTS = st.integers(0, 2**32 - 1)
OFFSETS = st.integers(0, 2**64 - 1)


def test_both_methods_of_inspection_answer_with_the_same_bytes() -> None:
    frames = [
        {field.number: (field.name, field.message_type) for field in message.DESCRIPTOR.fields}
        for message in (InspectActivationsResponse, InspectParametersResponse)
    ]
    assert frames[0] == frames[1]
    chunk = InspectParametersResponse.FromString(chunk_frame(3, 5, b"data")).chunk
    assert (chunk.result, chunk.offset, chunk.data) == (3, 5, b"data")


def copied(chunk: tuple[int, int, memoryview] | None) -> tuple[int, int, bytes] | None:
    return None if chunk is None else (chunk[0], chunk[1], bytes(chunk[2]))


@given(result=RESULTS, offset=OFFSETS, data=st.binary(max_size=300))
@example(result=0, offset=0, data=b"")
@example(result=127, offset=128, data=b"\0" * (1 << 20))
def test_what_is_written_is_what_protobuf_writes(result: int, offset: int, data: bytes) -> None:
    theirs = InspectActivationsResponse(chunk=Chunk(result=result, offset=offset, data=data))

    assert chunk_frame(result, offset, memoryview(data)) == theirs.SerializeToString()
    assert InspectActivationsResponse.FromString(chunk_frame(result, offset, data)) == theirs


@given(result=RESULTS, offset=OFFSETS, data=st.binary(max_size=300))
def test_what_protobuf_writes_is_read_without_its_parser(result: int, offset: int, data: bytes) -> None:
    message = InspectActivationsResponse(chunk=Chunk(result=result, offset=offset, data=data)).SerializeToString()

    assert copied(read_plain_chunk(message)) == (result, offset, data)


def test_the_payload_is_a_view_into_the_message() -> None:
    message = chunk_frame(3, 5, b"payload")
    chunk = read_plain_chunk(message)

    assert chunk is not None
    assert chunk[2].obj is message


@pytest.mark.parametrize(
    "frame",
    [
        InspectActivationsResponse(header=StreamHeader(model="m")),
        InspectActivationsResponse(summary=Summary(result=1)),
        InspectActivationsResponse(trailer=StreamTrailer(chunk_count=1)),
        InspectActivationsResponse(),
    ],
    ids=["header", "summary", "trailer", "empty"],
)
def test_other_frames_are_no_chunks(frame: InspectActivationsResponse) -> None:
    message = frame.SerializeToString()

    assert read_plain_chunk(message) is None
    assert parse_frame(message) == frame


# Forms that protobuf allows and our own server never writes: each is read through protobuf's parser.
OTHER_FORMS = {
    "fields in another order": "12 07 1a 03 616263 08 01",
    "an unknown field": "12 09 08 01 1a 03 616263 48 07",
    "an unknown field outside": "12 07 08 01 1a 03 616263 48 07",
    "a field given twice": "12 09 08 05 08 01 1a 03 616263",
    "two chunks merged": "12 02 08 01 12 05 1a 03 616263",
    "a result that is cut to 32 bits": "12 0b 08 8180808010 1a 03 616263",
}


@pytest.mark.parametrize("form", OTHER_FORMS)
def test_other_forms_are_read_through_the_parser(form: str) -> None:
    message = bytes.fromhex(OTHER_FORMS[form])

    joiner = StreamJoiner()
    results = [ResultHeader(), ResultHeader(data_type=DataType.DATA_TYPE_UINT8, shape=[3], byte_size=3)]
    joiner.feed(InspectActivationsResponse(header=StreamHeader(results=results)).SerializeToString())
    joiner.feed(InspectActivationsResponse(summary=Summary(result=0)).SerializeToString())
    joined = joiner.feed(message)

    assert read_plain_chunk(message) is None
    assert joined is not None
    assert joined.array is not None
    assert (joined.index, joined.array.tobytes()) == (1, b"abc")


def test_the_last_frame_of_a_message_counts() -> None:
    message = chunk_frame(1, 0, b"abc") + InspectActivationsResponse(header=StreamHeader()).SerializeToString()

    assert read_plain_chunk(message) is None
    assert parse_frame(message).WhichOneof("frame") == "header"


@pytest.mark.parametrize("message", ["12", "12 05 08", "12 80", "12 03 1a 05 61", "ff", "12 02 08 80"])
def test_a_broken_message_is_refused(message: str) -> None:
    assert read_plain_chunk(bytes.fromhex(message)) is None
    with pytest.raises(CorruptError, match=r"is no InspectActivationsResponse"):
        parse_frame(bytes.fromhex(message))


@given(message=st.binary(max_size=40) | st.binary(max_size=30).map(lambda tail: b"\x12" + tail))
def test_whatever_comes_it_is_read_as_protobuf_reads_it(message: bytes) -> None:
    plain = copied(read_plain_chunk(message))
    try:
        theirs = InspectActivationsResponse.FromString(message)
    except Exception:  # noqa: BLE001  # the parser's own error, whatever it is
        assert plain is None
        with pytest.raises(CorruptError):
            parse_frame(message)
        return
    chunk = theirs.chunk

    assert parse_frame(message).SerializeToString() == theirs.SerializeToString()  # NaN is not equal to NaN
    assert plain is None or plain == (chunk.result, chunk.offset, chunk.data)
    assert plain is None or theirs.WhichOneof("frame") == "chunk"
