"""Pages of a list that does not change between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from fluoroscope_server.errors import InvalidRequestError, quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")


def page_of(items: Sequence[T], size: int, token: str, *, default: int, most: int) -> tuple[Sequence[T], str]:
    """Returns one page and the token of the next, empty if there is none.

    Args:
        items: all items; the same at each call.
        size: how many were asked for; 0 means `default`, and more than `most` means `most`.
        token: what the page before gave; empty means the first page.
        default: the size of a page if none is asked for.
        most: the largest size of a page.

    Raises:
        InvalidRequestError: the size is negative, or the token is none that a page gave.
    """
    if size < 0:
        raise InvalidRequestError(f"page_size {size} is negative", field="page_size")
    if token and not (token.isascii() and token.isdigit() and len(token) < 12 and int(token) < len(items)):
        raise InvalidRequestError(
            f"page_token {quoted(token)} is none that the page before gave for the same question", field="page_token"
        )
    start = int(token or 0)
    end = start + min(size or default, most)
    return items[start:end], str(end) if end < len(items) else ""
