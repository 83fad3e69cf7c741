"""Pages: put together they are the whole, whatever their size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluoroscope_server.errors import InvalidRequestError
from fluoroscope_server.rpc.paging import page_of


@given(count=st.integers(0, 60), size=st.integers(0, 70), default=st.integers(1, 20), most=st.integers(1, 30))
def test_pages_are_the_whole(count: int, size: int, default: int, most: int) -> None:
    items = list(range(count))
    found: list[int] = []
    token = ""
    for _ in range(count + 1):
        page, token = page_of(items, size, token, default=default, most=most)
        assert len(page) <= min(size or default, most)
        found.extend(page)
        if not token:
            break
        assert page
    assert not token
    assert found == items


@pytest.mark.parametrize("size", [-1, -(2**31)])
def test_a_negative_size(size: int) -> None:
    with pytest.raises(InvalidRequestError, match=f"page_size {size} is negative") as caught:
        page_of([1, 2], size, "", default=1, most=2)
    assert caught.value.field == "page_size"


@given(st.text(min_size=1).filter(lambda token: not (token.isascii() and token.isdigit() and int(token) < 3)))
def test_tokens_that_no_page_gave(token: str) -> None:
    with pytest.raises(InvalidRequestError, match="is none that the page before gave") as caught:
        page_of([1, 2, 3], 1, token, default=1, most=2)
    assert caught.value.field == "page_token"
    assert len(caught.value.message) < 400


@pytest.mark.parametrize("token", ["3", "-1", "1e0", "²", "٢", "9" * 5000, " 1", "+1", "1_0"])
def test_some_hostile_tokens(token: str) -> None:
    with pytest.raises(InvalidRequestError):
        page_of([1, 2, 3], 1, token, default=1, most=2)
