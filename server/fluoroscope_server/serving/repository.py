"""The repository: the models that this server has, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fluoroscope_server.errors import NotFoundError, UnavailableError, nearest
from fluoroscope_server.keys import caller

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fluoroscope_server.serving.servable import Servable


class Repository:
    """Finds the servable that a request means. Belongs to the event loop."""

    def __init__(self, names: Iterable[str]) -> None:
        """Takes the names of all models that will be there once they are loaded."""
        self._servables: dict[str, Servable | None] = dict.fromkeys(sorted(names))

    def add(self, servable: Servable) -> None:
        """Lets requests reach a servable from now on."""
        self._servables[servable.name] = servable

    def names(self) -> list[str]:
        """Returns the names of all models, loaded or not, sorted."""
        return list(self._servables)

    def get(self, name: str, version: int | None = None) -> Servable:
        """Returns the servable of a model.

        Raises:
            PermissionDeniedError: it is none of the caller's.
            NotFoundError: there is no such model or version.
            UnavailableError: the model is still being loaded.
        """
        who = caller()
        if name:
            who.permit(name)
        if name not in self._servables:
            known = [each for each in self._servables if who.sees(each)]
            problem = f"there is no model {name!r}" if name else "the request names no model"
            raise NotFoundError(
                f"{problem}; this server has: {nearest(name, known)}", field="model", reason="MODEL_NOT_FOUND"
            )
        servable = self._servables[name]
        if servable is None:
            raise UnavailableError(f"model {name!r} is still being loaded; try again soon", reason="MODEL_LOADING")
        if version is not None and version != servable.version:
            raise NotFoundError(
                f"model {name!r} has no version {version}; it has {servable.version}",
                field="version",
                reason="VERSION_NOT_FOUND",
            )
        return servable

    def close(self) -> None:
        """Stops the compilers of all models."""
        for servable in self._servables.values():
            if servable is not None:
                servable.engine.close()
