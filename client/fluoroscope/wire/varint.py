"""Protobuf's variable-length integers: seven bits in a byte, the lowest first."""

from __future__ import annotations


def encode_varint(value: int) -> bytes:
    """Returns the shortest varint for a number that is not negative."""
    if value < 0x80:
        return bytes((value,))
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def decode_varint(message: bytes, start: int) -> tuple[int, int]:
    """Returns the number at `start` and the place behind it.

    Raises:
        IndexError: The message ends within the number.
        OverflowError: The number takes more than ten bytes or 64 bits.
    """
    value = shift = 0
    while shift < 70:
        byte = message[start]
        start += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                break
            return value, start
        shift += 7
    raise OverflowError(f"the varint that ends at byte {start} has more than 64 bits")
