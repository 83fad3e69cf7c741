from __future__ import annotations

import xxhash
from hypothesis import given
from hypothesis import strategies as st

from fluoroscope.v1.inspection_pb2 import InspectActivationsResponse, Statistics
from fluoroscope.wire import StreamSplitter
from fluoroscope.wire.frame import read_plain_chunk


@given(data=st.binary(max_size=64), chunk_bytes=st.integers(1, 70), before=st.integers(0, 3))
def test_chunks_cover_the_tensor_in_order(data: bytes, chunk_bytes: int, before: int) -> None:
    splitter = StreamSplitter(chunk_bytes=chunk_bytes)
    for _ in range(before):
        splitter.summary("statistics", Statistics())
    chunks = [read_plain_chunk(message) for message in splitter.tensor(memoryview(data))]

    place = 0
    for chunk in chunks:
        assert chunk is not None
        result, offset, payload = chunk
        assert (result, offset) == (before, place)
        assert payload == data[place : place + chunk_bytes]
        place += len(payload)
    assert place == len(data)
    assert len(chunks) == max(1, -(-len(data) // chunk_bytes))
    trailer = InspectActivationsResponse.FromString(splitter.trailer()).trailer
    assert list(trailer.checksums) == [*[0] * before, xxhash.xxh3_64_intdigest(data)]
    assert (trailer.chunk_count, trailer.byte_count) == (len(chunks), len(data))


def test_a_chunk_is_made_when_it_is_asked_for() -> None:
    splitter = StreamSplitter(chunk_bytes=1)
    data = bytearray(b"ab")
    messages = splitter.tensor(memoryview(data))
    next(messages)
    data[1:] = b"c"

    chunk = read_plain_chunk(next(messages))
    assert chunk is not None
    assert bytes(chunk[2]) == b"c"
