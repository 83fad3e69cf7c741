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

    async def look(self) -> None:
        """Looks once, and brings every watched model to what is wanted of it."""
        await self._operations.discover()
        for entry in self._repository.entries():
            if entry.watched:
                await self._bring(entry)

    async def run(self) -> None:
        """Looks again and again, until it is cancelled."""
        while True:
            await asyncio.sleep(self._seconds)
            try:
                await self.look()
            except Exception:  # what nobody thought of must not end the watch
                log.exception("the models could not be looked at; they are looked at again in %g s", self._seconds)

    async def _bring(self, entry: ModelEntry) -> None:
        try:
            await self._operations.reconcile(entry)
        except Exception:  # nor may it keep the models behind it waiting
            log.exception("model %r could not be looked at; it is looked at again in %g s", entry.name, self._seconds)
