"""The repository: the models that this server has, by name."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from fluoroscope_server.errors import NotFoundError, nearest, quoted
from fluoroscope_server.keys import ANYBODY, caller

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fluoroscope_server.serving.model_entry import ModelEntry, Selector
    from fluoroscope_server.serving.servable import Servable


class Repository:
    """Finds the servable that a request means. Belongs to the event loop."""

    def __init__(self) -> None:
        """Begins with no model."""
        self._entries: dict[str, ModelEntry] = {}

    def put(self, entry: ModelEntry) -> None:
        """Makes a model known."""
        self._entries[entry.name] = entry

    def remove(self, name: str) -> None:
        """Forgets a model."""
        del self._entries[name]

    def names(self) -> list[str]:
        """Returns the names of all models, loaded or not, sorted."""
        return sorted(self._entries)

    def entries(self) -> list[ModelEntry]:
        """Returns all models, sorted by name."""
        return [self._entries[name] for name in self.names()]

    def entry(self, name: str) -> ModelEntry:
        """Returns a model.

        Raises:
            PermissionDeniedError: it is none of the caller's.
            NotFoundError: there is none of that name.
        """
        who = caller()
        if name and who is not ANYBODY:
            who.permit(name)
        entry = self._entries.get(name)
        if entry is None:
            problem = f"there is no model {quoted(name)}" if name else "the request names no model"
            seen = [each for each in self.names() if who.sees(each)]
            known = f": {nearest(name, seen)}" if seen else " none"
            raise NotFoundError(f"{problem}; this server has{known}", field="model", reason="MODEL_NOT_FOUND")
        return entry

    def get(self, name: str, selector: Selector = None) -> Servable:
        """Returns the servable that a request means, which is kept until the task that asks has ended.

        gRPC makes a task for each call. A call that answers many requests uses `using` for each of them.

        Args:
            name: the model.
            selector: which version of it, by number or by label; None means the one that serves.

        Raises:
            PermissionDeniedError: the model is none of the caller's.
            NotFoundError: there is no such model, version or label.
            UnavailableError: the model is still being loaded, or cannot be served.
        """
        loaded = self.entry(name).select(selector)
        loaded.users.add_current()
        return loaded.servable

    @contextlib.contextmanager
    def using(self, name: str, selector: Selector = None) -> Iterator[Servable]:
        """Returns what `get` does, which is kept until the context ends."""
        loaded = self.entry(name).select(selector)
        with loaded.users.one():
            yield loaded.servable

    def close(self) -> None:
        """Stops the compilers of all models, and lets go of their weights."""
        for entry in self._entries.values():
            for loaded in (*entry.loaded.values(), *entry.leaving):
                loaded.servable.engine.close()
