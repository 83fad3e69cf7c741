"""The users of something that must not go before they are done."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class Users:
    """Those that use a version of a model: tasks that asked for it and have not ended.

    Each request is a task of its own, streams included; so nobody has to give anything back, and nobody can forget to.
    Only where many requests are answered in one task does each say when it begins and ends.
    """

    __slots__ = ("_uses",)

    def __init__(self) -> None:
        """Begins with none."""
        self._uses: set[asyncio.Future[Any]] = set()

    def __len__(self) -> int:
        return len(self._uses)

    def add_current(self) -> None:
        """Counts the task that runs as a user until it ends; outside of one it does nothing."""
        try:
            task = asyncio.current_task()
        except RuntimeError:  # no event loop runs
            return
        if task is not None and task not in self._uses:
            self._uses.add(task)
            task.add_done_callback(self._uses.discard)

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Is a user for as long as the context lasts."""
        use = asyncio.get_running_loop().create_future()
        self._uses.add(use)
        try:
            yield
        finally:
            self._uses.discard(use)
            use.cancel()

    async def gone(self) -> None:
        """Returns when every user has ended."""
        while self._uses:
            await asyncio.wait(self._uses)
