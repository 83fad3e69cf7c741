"""What stays is not looked at again; what was let go is found."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING

import pytest

from fluoroscope_server.garbage import look_again, set_aside

if TYPE_CHECKING:
    from collections.abc import Iterator


class Node:
    """An object that holds itself."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    gc.unfreeze()
    yield
    gc.unfreeze()


def is_looked_at(node: Node) -> bool:
    return any(each is node for each in gc.get_objects())


def test_what_stays_is_set_aside() -> None:
    node = Node()
    assert is_looked_at(node)
    set_aside()
    assert not is_looked_at(node)


def test_garbage_is_not_set_aside() -> None:
    dropped = weakref.ref(Node())
    set_aside()
    assert dropped() is None


def test_what_was_set_aside_and_let_go_is_found() -> None:
    node = Node()
    gone = weakref.ref(node)
    set_aside()
    del node
    gc.collect()
    assert gone() is not None  # so nothing else would have found it
    look_again()
    assert gone() is None


def test_what_is_left_is_set_aside_again() -> None:
    node = Node()
    look_again()
    assert not is_looked_at(node)
