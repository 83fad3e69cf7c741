"""The users of something that must not go before they are done."""

from __future__ import annotations

import asyncio
from typing import Any


class Users:
    """The tasks that use a version of a model: those that asked for it and have not ended.

    Each request is a task of its own, streams included; so nobody has to give anything back, and nobody can forget to.
    """

    __slots__ = ("_tasks",)

    def __init__(self) -> None:
        """Begins with none."""
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def add_current(self) -> None:
        """Counts the task that runs as a user until it ends; outside of one it does nothing."""
        try:
            task = asyncio.current_task()
        except RuntimeError:  # no event loop runs
            return
        if task is not None and task not in self._tasks:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def gone(self) -> None:
        """Returns when every user has ended."""
        while self._tasks:
            await asyncio.wait(self._tasks)
