"""The watcher: looks every few seconds what has changed in the models' folders."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fluoroscope_server.serving.model_entry import ModelEntry
    from fluoroscope_server.serving.operations import Operations
    from fluoroscope_server.serving.repository import Repository

log = logging.getLogger(__name__)


class Watcher:
    """Follows trainers that write and delete steps, and operators that add and remove models.

    It lists folders, on a thread, and asks nothing of the file system that a network mount cannot do.
    """

    def __init__(self, repository: Repository, operations: Operations, *, seconds: float) -> None:
        """Takes the models, what acts on them, and how long to wait between two looks."""
        self._repository = repository
        self._operations = operations
        self._seconds = seconds
        self._under_way: dict[ModelEntry, asyncio.Task[None]] = {}

    async def look(self) -> None:
        """Looks once; returns when every watched model has been brought to what is wanted of it."""
        await asyncio.gather(*await self._begin())

    async def run(self) -> None:
        """Looks again and again, until it is cancelled; a model that takes long is left to it meanwhile."""
        try:
            while True:
                await asyncio.sleep(self._seconds)
                try:
                    await self._begin()
                except Exception:  # what nobody thought of must not end the watch
                    log.exception("the models could not be looked at; they are looked at again in %g s", self._seconds)
        finally:
            for each in self._under_way.values():
                each.cancel()
            await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    async def _begin(self) -> list[asyncio.Task[None]]:
        """Looks which models there are, and begins to bring those that are watched to what is wanted of them."""
        await self._operations.discover()
        for entry in self._repository.entries():
            if entry.watched and entry not in self._under_way:
                self._under_way[entry] = asyncio.ensure_future(self._bring(entry))
        return list(self._under_way.values())

    async def _bring(self, entry: ModelEntry) -> None:
        try:
            await self._operations.reconcile(entry)
        except Exception:
            log.exception("model %r could not be looked at; it is looked at again in %g s", entry.name, self._seconds)
        finally:
            del self._under_way[entry]
