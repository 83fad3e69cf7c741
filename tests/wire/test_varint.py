from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluoroscope.wire.varint import decode_varint, encode_varint


@given(value=st.integers(0, 2**64 - 1), before=st.binary(max_size=3), after=st.binary(max_size=3))
def test_both_ways(value: int, before: bytes, after: bytes) -> None:
    message = before + encode_varint(value) + after

    assert decode_varint(message, len(before)) == (value, len(message) - len(after))


@pytest.mark.parametrize(
    ("value", "expected"), [(0, "00"), (127, "7f"), (128, "8001"), (2**64 - 1, "ffffffffffffffffff01")]
)
def test_known_values(value: int, expected: str) -> None:
    assert encode_varint(value).hex() == expected


@pytest.mark.parametrize("message", ["", "80", "ffffff"])
def test_a_number_that_ends_early(message: str) -> None:
    with pytest.raises(IndexError):
        decode_varint(bytes.fromhex(message), 0)


@pytest.mark.parametrize("message", ["ff" * 9 + "02", "80" * 10 + "00"])
def test_a_number_of_more_than_64_bits(message: str) -> None:
    with pytest.raises(OverflowError):
        decode_varint(bytes.fromhex(message), 0)
