"""Arguments of calls: what of them there may be, and what is said of those that the contract cannot say."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, overload

from fluoroscope.calls.errors import InvalidRequestError

T = TypeVar("T")


@overload
def several(given: str | Iterable[str]) -> tuple[str, ...]: ...
@overload
def several(given: T | Iterable[T]) -> tuple[T, ...]: ...
def several(given: object) -> tuple[object, ...]:
    """Returns all that is given as a tuple; text, and what is no collection, is one of its kind."""
    return tuple(given) if isinstance(given, Iterable) and not isinstance(given, str | bytes) else (given,)


def names_of(given: str | Iterable[str], field: str) -> tuple[str, ...]:
    """Returns one name, or several, as a tuple; raises InvalidRequestError if one is none.

    Args:
        given: The names.
        field: The argument that they are.
    """
    names = several(given)
    for each in names:
        if not isinstance(each, str):
            raise InvalidRequestError(f"{field} hold {each!r}; expected names", field=field)
    return names


def kept(given: T) -> T | tuple[object, ...]:
    """Returns a tuple of what can be gone through only once, such as a generator, and all else as it is."""
    return tuple(given) if isinstance(given, Iterator) else given


def whole(given: Any, name: str, *, least: int = 1, bits: int = 63) -> int:
    """Returns a whole number as one of Python's own.

    Args:
        given: The number: one of NumPy's is as good.
        name: The argument that it is.
        least: The least that it may be.
        bits: It must be less than two to the power of this.

    Raises:
        InvalidRequestError: It is no such number.
    """
    try:
        number = operator.index(given)
    except TypeError:
        number = least - 1
    if not least <= number < 1 << bits:
        raise InvalidRequestError(
            f"{name} is {given!r}; expected a whole number from {least} to {(1 << bits) - 1}", field=name
        )
    return number


@contextmanager
def building(what: object = "this", *, field: str | None = None) -> Iterator[None]:
    """Makes an InvalidRequestError of what protobuf and Python raise for arguments that have no room in a message.

    Args:
        what: What is put into the message.
        field: The argument that it is, if it is only one.
    """
    try:
        yield
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InvalidRequestError(f"{what} cannot be asked for: {error}", field=field) from error
