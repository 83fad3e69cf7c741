"""Slices mean what Python's do, and refuse what lies outside."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluoroscope_server.engine import Slice
from fluoroscope_server.errors import InvalidRequestError

ends = st.none() | st.integers(-12, 12)


@given(st.integers(0, 10), ends, ends, st.integers(-2, 12))
def test_is_pythons_slice_or_an_error(size: int, start: int | None, stop: int | None, step: int) -> None:
    cut = Slice(axis=0, start=start, stop=stop, step=step)
    indices = range(size)
    inside = (start is None or -size <= start < size) and (stop is None or -size <= stop <= size) and step > 0
    if inside and (wanted := list(indices[start:stop:step])):
        assert list(cut.range_of(size, axis=0, site="s", field="f")) == wanted
    else:
        with pytest.raises(
            InvalidRequestError, match="does not lie within axis 0 of site 's', whose size is"
        ) as caught:
            cut.range_of(size, axis=0, site="s", field="f")
        assert (caught.value.field, caught.value.reason) == ("f", "SLICE_OUT_OF_RANGE")


@pytest.mark.parametrize(
    ("cut", "text"),
    [
        (Slice(axis=0), ":"),
        (Slice(axis=0, start=1), "1:"),
        (Slice(axis=0, stop=-1), ":-1"),
        (Slice(axis=0, start=1, stop=5, step=2), "1:5:2"),
    ],
)
def test_is_written_as_python_does(cut: Slice, text: str) -> None:
    assert str(cut) == text
