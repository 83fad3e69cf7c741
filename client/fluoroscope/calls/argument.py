"""Arguments of calls: one of a kind, or several."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar, overload

T = TypeVar("T")


@overload
def several(given: str | Iterable[str]) -> tuple[str, ...]: ...
@overload
def several(given: T | Iterable[T]) -> tuple[T, ...]: ...
def several(given: object) -> tuple[object, ...]:
    """Returns all that is given as a tuple; text, and what is no collection, is one of its kind."""
    return tuple(given) if isinstance(given, Iterable) and not isinstance(given, str | bytes) else (given,)


def kept(given: T) -> T | tuple[object, ...]:
    """Returns a tuple of what can be gone through only once, such as a generator, and all else as it is."""
    return tuple(given) if isinstance(given, Iterator) else given
