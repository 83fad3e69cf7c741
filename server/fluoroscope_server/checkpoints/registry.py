"""Orbax's readers of each type of leaf, made to end what they began.

When one leaf cannot be read, Orbax raises at once and closes the event loop under all other reads. Each of them
then fails on its own, later and on other threads, where only Python's last hook sees it: kilobytes of TensorStore
specs on standard error. Here a failed read waits for the others before it is raised.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import orbax.checkpoint as ocp

if TYPE_CHECKING:
    from collections.abc import Awaitable

_T = TypeVar("_T")


class _Reader(ocp.type_handlers.TypeHandler):  # type: ignore[misc]  # Orbax ships no types
    """Wraps Orbax's reader of one type of leaf. Cannot write."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def typestr(self) -> str:
        return str(self._reader.typestr())

    async def metadata(self, infos: Any) -> Any:
        return await _settled(self._reader.metadata(infos))

    async def deserialize(self, infos: Any, args: Any = None) -> Any:
        return await _settled(self._reader.deserialize(infos, args))

    def memory_size(self, values: Any) -> Any:
        return self._reader.memory_size(values)

    async def serialize(self, *_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError("checkpoints are only read here")


def readers() -> Any:
    """Returns the registry of readers to give to Orbax."""
    types = (*ocp.type_handlers.supported_types(), type(ocp.PLACEHOLDER))
    wrapped = [(each, _Reader(ocp.type_handlers.get_type_handler(each))) for each in types]
    return ocp.type_handlers.create_type_handler_registry(*wrapped)


async def _settled(reading: Awaitable[_T]) -> _T:
    # What runs before: this read itself, whoever waits for it, and its siblings; to wait for those would be for ever.
    before = asyncio.all_tasks()
    try:
        return await reading
    except Exception:
        while begun := asyncio.all_tasks() - before:
            await asyncio.wait(begun)
        raise
