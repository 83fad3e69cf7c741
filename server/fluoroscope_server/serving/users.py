"""The users of something that must not go before they are done."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


Call = asyncio.Task[Any] | None
"""The task of a call: gRPC makes one for each."""


class Users:
    """Those that use a version of a model: tasks that asked for it and have not ended.

    Each request is a task of its own, streams included; so nobody has to give anything back, and nobody can forget to.
    Only where many requests are answered in one task does each say when it begins and ends.
    """

    __slots__ = ("_uses",)

    def __init__(self) -> None:
        """Begins with none."""
        self._uses: dict[asyncio.Future[Any], Call] = {}

    def __len__(self) -> int:
        return len(self._uses)

    def add_current(self) -> None:
        """Counts the task that runs as a user until it ends; outside of one it does nothing."""
        try:
            task = asyncio.current_task()
        except RuntimeError:  # no event loop runs
            return
        if task is not None and task not in self._uses:
            self._uses[task] = task
            task.add_done_callback(self._uses.pop)

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Is a user for as long as the context lasts."""
        use = asyncio.get_running_loop().create_future()
        self._uses[use] = asyncio.current_task()
        try:
            yield
        finally:
            del self._uses[use]
            use.cancel()

    def calls(self) -> set[Call]:
        """Returns the tasks that the users are, or are parts of."""
        return set(self._uses.values())

    async def gone(self, seconds: float | None = None) -> bool:
        """Returns True when every user has ended, or False when so many seconds have passed before that."""
        loop = asyncio.get_running_loop()
        end = None if seconds is None else loop.time() + seconds
        while self._uses:
            if end is not None and loop.time() >= end:
                return False
            await asyncio.wait(self._uses, timeout=None if end is None else end - loop.time())
        return True
