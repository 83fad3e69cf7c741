"""Orbax's readers, wrapped."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import jax
import orbax.checkpoint as ocp
import pytest

from fluoroscope_server.checkpoints.registry import readers

if TYPE_CHECKING:
    from collections.abc import Sequence

ended: list[str] = []


class Reader(ocp.type_handlers.TypeHandler):  # type: ignore[misc]  # Orbax ships no types
    """Fails at the first leaf, and takes its time for the second."""

    def typestr(self) -> str:
        return "jax.Array"

    async def _read(self, name: str) -> None:
        if name == "broken":
            raise ValueError(name)
        await asyncio.sleep(0.05)
        ended.append(name)

    async def metadata(self, infos: Sequence[str]) -> list[None]:
        return await asyncio.gather(*map(self._read, infos))

    async def deserialize(self, infos: Sequence[str], args: object = None) -> list[None]:
        assert args == "arguments"
        return await self.metadata(infos)

    async def serialize(self) -> None: ...


@pytest.mark.parametrize("action", ["metadata", "deserialize"])
def test_failed_read_waits_for_the_others(monkeypatch: pytest.MonkeyPatch, action: str) -> None:
    monkeypatch.setattr(ocp.type_handlers, "get_type_handler", lambda _: Reader())
    ended.clear()

    async def read_all() -> None:
        # As Orbax does it: one call for each type, all under one gather.
        reader = readers().get(jax.Array)
        arguments = ("arguments",) if action == "deserialize" else ()
        batches = (["broken", "slow"], ["also slow"])
        await asyncio.gather(*(getattr(reader, action)(batch, *arguments) for batch in batches))

    with pytest.raises(ValueError, match="broken"):
        asyncio.run(read_all())
    assert sorted(ended) == ["also slow", "slow"]


def test_every_type_of_orbax_has_a_reader() -> None:
    for each in (*ocp.type_handlers.supported_types(), type(ocp.PLACEHOLDER)):
        assert readers().get(each).typestr() == ocp.type_handlers.get_type_handler(each).typestr()


def test_nothing_can_be_written() -> None:
    with pytest.raises(NotImplementedError, match="only read"):
        asyncio.run(readers().get(jax.Array).serialize([], [], []))
