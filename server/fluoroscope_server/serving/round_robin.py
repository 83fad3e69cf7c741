"""A round robin: who waits, by whose they are, so that nobody is served more often than others who wait."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable

T = TypeVar("T")


class RoundRobin(Generic[T]):
    """Items in lanes, one for each key: the lanes take turns, and each gives its oldest item.

    A new lane is behind all others, so whoever waits is served after one item, at most, of each key that waits: no
    number of items of another key, and no number of keys that come later, holds it up for longer. Each operation takes
    the same time however many wait.
    """

    def __init__(self) -> None:
        """Holds nothing yet."""
        self._lanes: OrderedDict[Hashable, OrderedDict[T, None]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def push(self, key: Hashable, item: T) -> None:
        """Adds an item, hashable and not there yet, behind those of its key."""
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = OrderedDict()
        lane[item] = None
        self._count += 1

    def peek(self) -> T:
        """Returns the item whose turn it is."""
        return next(iter(next(iter(self._lanes.values()))))

    def pop(self) -> T:
        """Takes the item whose turn it is; its key goes behind all others."""
        key, lane = next(iter(self._lanes.items()))
        item, _ = lane.popitem(last=False)
        self._count -= 1
        if lane:
            self._lanes.move_to_end(key)
        else:
            del self._lanes[key]
        return item

    def remove(self, key: Hashable, item: T) -> bool:
        """Takes an item out of its turn; returns whether it was still there."""
        lane = self._lanes.get(key)
        if lane is None or item not in lane:
            return False
        del lane[item]
        self._count -= 1
        if not lane:
            del self._lanes[key]
        return True
