from __future__ import annotations

import xxhash
from hypothesis import given
from hypothesis import strategies as st

from fluoroscope.wire import Checksum


def test_the_published_value_of_xxh3_for_no_bytes() -> None:
    # https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md: XXH3_64bits of the empty input, seed 0.
    assert Checksum().value == 0x2D06800538D394C2


@given(pieces=st.lists(st.binary()))
def test_it_does_not_matter_how_the_bytes_are_cut(pieces: list[bytes]) -> None:
    checksum = Checksum()
    for piece in pieces:
        checksum.update(memoryview(piece))

    assert checksum.value == xxhash.xxh3_64_intdigest(b"".join(pieces))
