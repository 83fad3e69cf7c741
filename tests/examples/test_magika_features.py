from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import features

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt
    from magika import Magika

SPACE = " \t\n\r\x0b\x0c"


def magikas_tokens(magika: Magika, content: bytes) -> npt.NDArray[np.int32] | None:
    """Returns what magika feeds its network; None if it answers without the network."""
    from magika.types import Seekable

    _, found = magika._get_result_or_features_from_seekable(Seekable(io.BytesIO(content)))
    return None if found is None else np.array(found.beg + found.end, np.int32)


def our_tokens(content: bytes) -> npt.NDArray[np.int32] | None:
    try:
        return features.tokens_of_stream(io.BytesIO(content))
    except features.TooShortError:
        return None


def test_constants_are_those_of_the_packages_config(magika: Magika) -> None:
    config = magika._model_config
    assert (config.beg_size, config.mid_size, config.end_size) == (features.BEGIN_SIZE, 0, features.END_SIZE)
    assert config.padding_token == features.PADDING
    assert config.block_size == features.BLOCK_SIZE
    assert config.min_file_size_for_dl == features.LEAST_BYTES


def test_real_files_give_the_tokens_that_magika_feeds(magika: Magika, files: list[Path]) -> None:
    for path in files:
        np.testing.assert_array_equal(
            features.tokens_of_file(path), magikas_tokens(magika, path.read_bytes()), err_msg=path.name
        )


@st.composite
def contents(draw: st.DrawFn) -> bytes:
    """Draws files of sizes around the limits, with white space at either end."""
    space = st.text(SPACE, max_size=20).map(str.encode)
    much = st.sampled_from([0, 0, 0, 1015, 1017, 4080, 4096, 5000]).map(lambda size: b" " * size)
    body = draw(st.binary(max_size=40)) * draw(st.sampled_from([1, 25, 26, 60, 103, 250]))
    return draw(much) + draw(space) + body + draw(space) + draw(much)


@given(content=contents())
@settings(max_examples=300, deadline=None)
def test_any_bytes_give_the_tokens_that_magika_feeds(magika: Magika, content: bytes) -> None:
    expected, found = magikas_tokens(magika, content), our_tokens(content)
    assert (found is None) == (expected is None)
    if expected is not None:
        np.testing.assert_array_equal(found, expected)


def test_padding_is_in_the_middle_and_only_the_outer_white_space_goes() -> None:
    tokens = features.tokens_of_stream(io.BytesIO(b"  12345678 \n"))
    assert tokens.dtype == np.int32
    assert tokens[:10].tolist() == list(b"12345678 \n")
    assert tokens[-10:].tolist() == list(b"  12345678")
    assert set(tokens[10:-10].tolist()) == {features.PADDING}


def test_too_few_bytes_are_refused_with_their_number() -> None:
    with pytest.raises(features.TooShortError, match="7 bytes after leading white space; the network needs 8"):
        features.tokens_of_stream(io.BytesIO(b"\n 1234567"))
