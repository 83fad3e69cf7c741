"""The stream of a comparison as the client reads it: whatever is wrong with it is said."""

from __future__ import annotations

from typing import Any

import pytest

from fluoroscope.calls import CorruptStreamError, IncompleteStreamError
from fluoroscope.calls.compare import ComparisonReader
from fluoroscope.v1 import inspection_pb2, tensor_pb2

FLOAT32 = tensor_pb2.DATA_TYPE_FLOAT32
BOTH: dict[str, Any] = {"left_data_type": FLOAT32, "right_data_type": FLOAT32}
HEADER = inspection_pb2.ComparisonHeader(
    model="digits",
    left_version=1,
    right_version=2,
    sites=[
        inspection_pb2.ComparedSite(path="a", kind=inspection_pb2.SITE_KIND_MODULE, shape=[-1, 2], **BOTH),
        inspection_pb2.ComparedSite(path="b", left_data_type=FLOAT32, not_comparable_reason="only the left has it"),
        inspection_pb2.ComparedSite(path="c", kind=inspection_pb2.SITE_KIND_NAMED, shape=[2], **BOTH),
    ],
)


def frames(*places: int, first: int | None = None) -> list[inspection_pb2.CompareActivationsResponse]:
    """A header, a comparison for each place, and a trailer."""
    compared = [inspection_pb2.SiteComparison(site=place, count=4, identical_count=4) for place in places]
    trailer = inspection_pb2.ComparisonTrailer(first_divergence=first, comparison_count=len(places))
    return [
        inspection_pb2.CompareActivationsResponse(header=HEADER),
        *(inspection_pb2.CompareActivationsResponse(comparison=each) for each in compared),
        inspection_pb2.CompareActivationsResponse(trailer=trailer),
    ]


def read(messages: list[inspection_pb2.CompareActivationsResponse]) -> Any:
    reader = ComparisonReader()
    items = [item for message in messages if (item := reader.feed(message.SerializeToString())) is not None]
    reader.finish()
    return reader.collect(items)


def test_a_whole_stream() -> None:
    found = read(frames(0, 2, first=2))
    assert (list(found), found.first_divergence, found.versions) == (["a", "c"], "c", (1, 2))
    assert found.not_compared == {"b": "only the left has it"}
    assert found["a"].identical
    with pytest.raises(KeyError, match="no site 'b' came; these did: a, c"):
        found["b"]
    assert "'c' diverges first" in repr(found)
    assert read(frames(0, 2)).first_divergence is None


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        (frames(0), "the trailer came too early: 1 of 2 results"),
        (frames(2, 0), "site 2 came where another is due"),
        (frames(0, 0), "site 0 came where another is due"),
        (frames(0, 1), "site 1 came where another is due"),
        (frames(0, 2, first=1), "names site 1, which was not compared"),
        (frames(0, 2)[1:], "a comparison came where none may come"),
        ([*frames(0, 2)[:1], *frames(0, 2)], "a header came where none may come"),
        ([*frames(0, 2), *frames(0, 2)[-1:]], "a trailer came where none may come"),
        ([inspection_pb2.CompareActivationsResponse()], "a message of no known kind came where none may come"),
        ([*frames(0)[:1], inspection_pb2.CompareActivationsResponse()], r"a message of no known kind came\."),
    ],
)
def test_a_corrupt_stream(messages: list[inspection_pb2.CompareActivationsResponse], message: str) -> None:
    with pytest.raises(CorruptStreamError, match=message):
        read(messages)


def test_an_incomplete_stream() -> None:
    with pytest.raises(
        IncompleteStreamError, match=r"without its trailer: 1 of 2 results had come whole; missing from .*\. Ask again"
    ) as ended:
        read(frames(0, 2)[:2])
    assert ended.value.arrived is not None
    assert (ended.value.arrived.complete, ended.value.arrived.missing) == (("a",), ("c",))
    with pytest.raises(CorruptStreamError, match="is no CompareActivationsResponse"):
        ComparisonReader().feed(b"\xff")


def test_a_stream_that_ends_before_its_header() -> None:
    with pytest.raises(IncompleteStreamError, match=r"nothing had come, not even the header\. Ask again") as ended:
        read([])
    assert ended.value.arrived is not None
    assert not ended.value.arrived.announced
