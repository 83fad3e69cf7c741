from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluoroscope.v1.inspection_pb2 import (
    Chunk,
    InspectActivationsResponse,
    Reduction,
    ResultHeader,
    StageTime,
    Statistics,
    StreamHeader,
    StreamTrailer,
)
from fluoroscope.v1.tensor_pb2 import DataType
from fluoroscope.wire import (
    CorruptError,
    IncompleteError,
    StreamJoiner,
    StreamSplitter,
    chunk_frame,
    dtype_to_wire,
    tensor_bytes,
)
from fluoroscope.wire.dtype import DTYPES, GREATEST_BYTE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fluoroscope.wire import StreamResult

FLOAT32 = DataType.DATA_TYPE_FLOAT32
SUMMARY = Statistics(count=6, mean=2.5)
A = np.arange(6, dtype=np.float32).reshape(2, 3)
B = np.array([True, False, True])
E = np.zeros((0, 4), np.float16)


def announce(site: str, value: np.ndarray | Statistics) -> ResultHeader:
    if isinstance(value, Statistics):
        return ResultHeader(site=site, reduction=Reduction(statistics=Reduction.Describe()), shape=[2, 3])
    return ResultHeader(site=site, data_type=dtype_to_wire(value.dtype), shape=value.shape, byte_size=value.nbytes)


@dataclass
class Stream:
    """A stream in parts, so that a test can break one."""

    header: bytes
    body: list[list[bytes]]
    trailer: bytes

    def messages(self) -> list[bytes]:
        return [self.header, *(message for result in self.body for message in result), self.trailer]


def stream_of(values: Sequence[np.ndarray | Statistics], chunk_bytes: int = 8) -> Stream:
    splitter = StreamSplitter(chunk_bytes=chunk_bytes)
    results = [announce(f"site_{index}", value) for index, value in enumerate(values)]
    body = [
        [splitter.summary("statistics", value)]
        if isinstance(value, Statistics)
        else list(splitter.tensor(tensor_bytes(value)))
        for value in values
    ]
    header = splitter.header(StreamHeader(model="m", version=3, results=results))
    return Stream(header, body, splitter.trailer([StageTime(stage="compute", seconds=0.5)]))


def join(messages: Iterable[bytes]) -> list[StreamResult]:
    joiner = StreamJoiner()
    results = [result for message in messages if (result := joiner.feed(message)) is not None]
    joiner.finish()
    return results


@st.composite
def values(draw: st.DrawFn) -> np.ndarray | Statistics:
    if draw(st.booleans()) and draw(st.booleans()):
        return SUMMARY
    dtype = draw(st.sampled_from(list(DTYPES.values())))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    size = prod(shape) * dtype.itemsize
    bits = np.frombuffer(draw(st.binary(min_size=size, max_size=size)), np.uint8)
    array: np.ndarray = (bits & np.uint8(GREATEST_BYTE.get(dtype, 0xFF))).view(dtype)
    return array.reshape(shape)


@given(sent=st.lists(values(), max_size=5), chunk_bytes=st.integers(1, 70))
def test_what_is_joined_is_what_was_split(sent: list[np.ndarray | Statistics], chunk_bytes: int) -> None:
    results = join(stream_of(sent, chunk_bytes).messages())

    assert [result.index for result in results] == list(range(len(sent)))
    for value, result in zip(sent, results, strict=True):
        assert result.header == announce(f"site_{result.index}", value)
        if isinstance(value, Statistics):
            assert result.summary is not None
            assert (result.summary.statistics, result.array) == (value, None)
        else:
            assert result.array is not None
            assert (result.array.dtype, result.array.shape) == (value.dtype, value.shape)
            assert result.array.tobytes() == value.tobytes()


def test_a_stream_that_protobuf_wrote_is_joined_too() -> None:
    parts = stream_of([A])
    frame = InspectActivationsResponse(chunk=Chunk(data=A.tobytes()))
    parts.body = [[frame.SerializeToString()]]
    trailer = InspectActivationsResponse.FromString(parts.trailer).trailer
    trailer.chunk_count = 1
    parts.trailer = InspectActivationsResponse(trailer=trailer).SerializeToString()

    assert np.array_equal(join(parts.messages())[0].array, A)  # type: ignore[arg-type]  # None would fail


def test_results_come_as_soon_as_they_are_complete() -> None:
    parts = stream_of([A, SUMMARY, E, B])
    joiner = StreamJoiner()
    complete = [joiner.feed(message) is not None for message in parts.messages()]

    assert complete == [False, False, False, True, True, True, True, False]
    assert joiner.byte_count == A.nbytes + B.nbytes
    assert joiner.header is not None
    assert joiner.header.version == 3
    assert joiner.finish().stages[0].stage == "compute"


def test_arrays_are_the_readers_own() -> None:
    array = join(stream_of([A]).messages())[0].array

    assert array is not None
    assert array.flags.writeable
    assert array.flags.owndata


@pytest.mark.parametrize(
    ("kept", "text"),
    [
        (0, "nothing had come, not even the header"),
        (1, r"0 of 3 results had come whole; missing from site 'site_0' \(result 0\) on"),
        (2, r"0 of 3 results had come whole; 8 of its 24 bytes had come; missing from site 'site_0'"),
        (4, r"1 of 3 results had come whole; missing from site 'site_1' \(result 1\) on"),
        (5, r"2 of 3 results had come whole; missing from site 'site_2'"),
        (6, r"all 3 results had come, but not the checksums"),
    ],
)
def test_an_incomplete_stream_says_what_came_and_what_did_not(kept: int, text: str) -> None:
    with pytest.raises(IncompleteError, match=text):
        join(stream_of([A, SUMMARY, B]).messages()[:kept])


@given(cut=st.integers(0, 7))
def test_no_stream_without_a_trailer_is_complete(cut: int) -> None:
    with pytest.raises(IncompleteError):
        join(stream_of([A, SUMMARY, E, B]).messages()[:cut])


def broken(name: str) -> list[bytes]:
    parts = stream_of([A, B, SUMMARY])
    first, second, third = parts.body[0]
    truth, summary = parts.body[1][0], parts.body[2][0]
    return {
        "no header": [first],
        "two headers": [parts.header, parts.header],
        "missing chunk": [parts.header, first, third],
        "missing first chunk": [parts.header, second],
        "repeated chunk": [parts.header, first, first],
        "swapped chunks": [parts.header, first, third, second],
        "repeated tensor": [parts.header, *parts.body[0], first],
        "swapped tensors": [parts.header, truth],
        "next tensor too early": [parts.header, first, truth],
        "missing summary": [parts.header, *parts.body[0], truth, parts.trailer],
        "summary too early": [parts.header, *parts.body[0], summary],
        "chunk for a summary": [parts.header, *parts.body[0], truth, chunk_frame(2, 0, b"abc")],
        "unknown result": [parts.header, chunk_frame(3, 0, b"abc")],
        "too many bytes": [parts.header, chunk_frame(0, 0, b"\0" * 25)],
        "empty chunk": [parts.header, chunk_frame(0, 0, b"")],
        "no bool": [parts.header, *parts.body[0], chunk_frame(1, 0, b"\0\2\0")],
        "flipped bit": [parts.header, first, chunk_frame(0, 8, b"\1" * 8), third, truth, summary, parts.trailer],
        "after the trailer": [*parts.messages(), first],
        "two trailers": [*parts.messages(), parts.trailer],
        "empty frame": [parts.header, b""],
        "garbage": [parts.header, b"\xff\xff"],
    }[name]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("no header", r"a chunk of result 0 came before the header"),
        ("two headers", r"a second header came"),
        ("missing chunk", r"site 'site_0' \(result 0\) with offset 16 came; expected offset 8"),
        ("missing first chunk", r"'site_0' \(result 0\) with offset 8 came; expected offset 0"),
        ("repeated chunk", r"'site_0' \(result 0\) with offset 0 came again; expected offset 8"),
        ("swapped chunks", r"'site_0' \(result 0\) with offset 16 came; expected offset 8"),
        ("repeated tensor", r"a chunk of site 'site_0' \(result 0\) came again, after it was complete"),
        ("swapped tensors", r"a chunk of site 'site_1' \(result 1\) came at offset 0 of site 'site_0'"),
        ("next tensor too early", r"'site_1' \(result 1\) came at offset 8 of site 'site_0' \(result 0\)"),
        ("missing summary", r"the trailer came too early: 2 of 3 results .* missing from site 'site_2'"),
        ("summary too early", r"a summary of site 'site_2' \(result 2\) came at offset 0 of site 'site_1'"),
        ("chunk for a summary", r"a chunk came for site 'site_2' \(result 2\); expected its summary"),
        ("unknown result", r"a chunk of result 3 came; the header announces 3 results"),
        ("too many bytes", r"a chunk ends at byte 25 of site 'site_0' \(result 0\), which has 24 bytes"),
        ("empty chunk", r"an empty chunk came at offset 0 of site 'site_0'"),
        ("no bool", r"site 'site_1' \(result 1\): byte 1 is 0x02, which is no bool"),
        ("flipped bit", r"site 'site_0' \(result 0\) is corrupt: its checksum is [0-9a-f]{16}, the server's"),
        ("after the trailer", r"a chunk of result 0 came after the trailer"),
        ("two trailers", r"a second trailer came"),
        ("empty frame", r"none of header, chunk, summary and trailer"),
        ("garbage", r"is no InspectActivationsResponse"),
    ],
)
def test_a_broken_stream_says_where_and_what_was_expected(name: str, text: str) -> None:
    with pytest.raises(CorruptError, match=text):
        join(broken(name))


@given(data=st.data())
def test_no_change_of_a_payload_goes_unnoticed(data: st.DataObject) -> None:
    parts = stream_of([A, A.astype(ml_dtypes.bfloat16)], chunk_bytes=7)
    result = data.draw(st.sampled_from(parts.body))
    index = data.draw(st.integers(0, len(result) - 1))
    changed = bytearray(result[index])
    changed[-1] ^= 1 << data.draw(st.integers(0, 7))
    result[index] = bytes(changed)

    with pytest.raises(CorruptError, match=r"is corrupt: its checksum"):
        join(parts.messages())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (StreamTrailer(checksums=[1]), r"the trailer has 1 checksums; expected 2"),
        (StreamTrailer(checksums=[0, 0], chunk_count=9), r"the server sent 9 chunks, 0 came"),
        (StreamTrailer(checksums=[0, 0], byte_count=9), r"the server sent 9 bytes, 0 came"),
        (StreamTrailer(checksums=[0, 5]), r"site 'site_1' \(result 1\) is corrupt"),
    ],
)
def test_a_trailer_that_contradicts_what_came(change: StreamTrailer, text: str) -> None:
    parts = stream_of([SUMMARY, SUMMARY])
    parts.trailer = InspectActivationsResponse(trailer=change).SerializeToString()

    with pytest.raises(CorruptError, match=text):
        join(parts.messages())


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (ResultHeader(site="s", data_type=FLOAT32, shape=[2, 3], byte_size=25), r"25 bytes for site 's'.* make 24"),
        (ResultHeader(site="s", data_type=FLOAT32, shape=[2**50], byte_size=2**40), r"make 4503599627370496"),
        (ResultHeader(output="o", data_type=FLOAT32, shape=[-1], byte_size=4), r"output 'o'.*negative"),
        (ResultHeader(site="s", data_type=DataType.ValueType(99)), r"'s' \(result 0\) wrongly: data_type is 99"),
        (ResultHeader(site="s", data_type=FLOAT32, shape=[0, 2**62, 2**62]), r"'s'.* wrongly: no array can have"),
        (ResultHeader(site="s", data_type=FLOAT32, shape=[1] * 65, byte_size=4), r"'s'.* wrongly: no array can have"),
        (ResultHeader(site="s", data_type=FLOAT32, shape=[2**63 - 1] * 300), r"'s'.* wrongly: no array can have"),
        (ResultHeader(site="s", data_type=FLOAT32, shape=[2**63 - 1] * 10_000), r"'s'.* wrongly: no array can have"),
        (ResultHeader(site="s", shape=[2**63 - 1] * 10_000, byte_size=1), r"1 bytes for site 's'.* make 0"),
        (ResultHeader(site="s", shape=[2, 3], byte_size=24), r"24 bytes for site 's'.* make 0"),
        (ResultHeader(data_type=FLOAT32, byte_size=2), r"2 bytes for result 0"),
    ],
)
def test_a_header_that_contradicts_itself_is_refused_before_any_memory_is_taken(
    result: ResultHeader, text: str
) -> None:
    with pytest.raises(CorruptError, match=text) as refused:
        StreamJoiner().feed(StreamSplitter.header(StreamHeader(results=[result])))
    assert len(str(refused.value)) < 2_000


def test_an_array_that_cannot_be_made_is_refused() -> None:
    result = ResultHeader(site="s", data_type=FLOAT32, shape=[2**60], byte_size=2**62)
    joiner = StreamJoiner()
    joiner.feed(StreamSplitter.header(StreamHeader(results=[result])))

    with pytest.raises(CorruptError, match=r"no array can be made for site 's'"):
        joiner.feed(chunk_frame(0, 0, b"\0" * 4))
