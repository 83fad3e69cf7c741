"""Versions that are swapped while many ask: no request fails, and every answer is of a version that was whole."""

from __future__ import annotations

import asyncio
import shutil
import threading
from typing import TYPE_CHECKING

import orbax.checkpoint as ocp

from .house import items, write_step

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .house import House

    Run = Callable[..., None]


def test_not_one_request_fails_while_versions_are_swapped(run: Run, net: Path) -> None:
    swaps = 4

    async def test(house: House) -> None:
        last: int = 1 + swaps
        seen: list[int] = []

        async def client() -> None:
            while not seen or seen[-1] < last:
                seen.append(await house.answers())

        clients = [asyncio.ensure_future(client()) for _ in range(8)]
        for step in range(2, last + 1):
            write_step(net, step)
            await house.watcher.look()
        await asyncio.gather(*clients)
        assert set(seen) == set(range(1, last + 1))
        assert len(seen) > 100
        await house.released()
        assert house.loaded() == [last]

    run(test)


def test_a_trainer_that_writes_and_deletes_steps_at_the_same_time(run: Run, net: Path) -> None:
    """Two steps are kept, so that each of them soon is deleted, often while it is read."""
    shutil.rmtree(net)
    last = 12
    options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)

    def train() -> None:
        with ocp.CheckpointManager(net, options=options) as trainer:
            for step in range(1, last + 1):
                trainer.save(step, args=items(step))

    async def test(house: House) -> None:
        training = threading.Thread(target=train)
        training.start()
        seen: list[int] = []
        while training.is_alive() or not seen or seen[-1] < last:
            await house.watcher.look()
            if "net" in house.repository.names() and house.entry().loaded:
                seen.append(await house.answers())
        training.join()
        assert seen == sorted(seen)
        assert house.loaded() == [last]
        await house.watcher.look()
        assert house.entry().refused == {}, "of what was deleted nothing is left"
        await house.released()

    run(test)
