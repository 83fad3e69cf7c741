"""Versions that were unloaded while somebody still uses them: who may hold them up, and for how long."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import pytest

from .house import PATIENCE, write_step

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .house import House

    Run = Callable[..., None]


async def use(house: House, go: asyncio.Event) -> None:
    """Is a call that has got the version which serves, and takes its time."""
    house.repository.get("net")
    await go.wait()


async def begun(house: House, go: asyncio.Event) -> asyncio.Task[None]:
    call = asyncio.ensure_future(use(house, go))
    await asyncio.sleep(0)
    return call


async def swapped(house: House, net: Path) -> None:
    """Version 2 has taken the place of version 1, which still has its users."""
    write_step(net, 2)
    await house.watcher.look()
    assert (await house.answers(), len(house.entry().leaving)) == (2, 1)


def test_a_call_that_works_or_is_read_holds_its_version(run: Run, net: Path) -> None:
    async def test(house: House) -> None:
        go = asyncio.Event()
        working, read = await begun(house, go), await begun(house, go)
        messages = itertools.count(1)
        house.unread = lambda call: next(messages) if call is read else 0
        await swapped(house, net)
        await asyncio.sleep(10 * PATIENCE)
        assert next(messages) > 3, "it was looked at"
        assert not working.done()
        assert not read.done()
        go.set()
        await house.released()
        assert (working.exception(), read.exception()) == (None, None)
        assert "unloaded net: version 1" in house.said

    run(test)


def test_a_call_that_nobody_reads_is_ended(run: Run, net: Path) -> None:
    async def test(house: House) -> None:
        go = asyncio.Event()
        working, stalled = await begun(house, go), await begun(house, go)
        house.unread = lambda call: 7 if call is stalled else 0
        await swapped(house, net)
        await asyncio.wait([stalled])
        assert stalled.cancelled()
        assert not working.done()
        assert "a call was ended that held up version 1 of net, which was unloaded" in house.said
        go.set()
        await house.released()
        assert house.said[-1] == "unloaded net: version 1"

    run(test)


@pytest.mark.usefixtures("net")
def test_nobody_is_ended_whose_version_is_still_loaded(run: Run) -> None:
    async def test(house: House) -> None:
        go = asyncio.Event()
        stalled = await begun(house, go)
        house.unread = lambda call: 7 if call is stalled else 0
        await asyncio.sleep(4 * PATIENCE)
        assert not stalled.done()
        go.set()
        await stalled

    run(test)
