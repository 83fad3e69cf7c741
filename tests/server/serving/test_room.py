"""What becomes of a version for which there is no room beside the old one, and of the old one."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from fluoroscope_server.errors import WrongStateError
from fluoroscope_server.families.base_network import build
from fluoroscope_server.settings import Swap

from .house import CONFIG, write_step

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .house import House

    Run = Callable[..., None]


@pytest.fixture
def net(net: Path) -> Path:
    """The folder of the model `net`, with steps 1 and 2."""
    write_step(net, 2)
    return net


@pytest.fixture
def room(family: Callable[[Any], str], net: Path) -> list[Callable[[], bool]]:
    """Step 3 of `net`, in `_later`, takes all the memory there is as long as this says that there is no room for it."""

    def make(config: dict[str, Any]) -> Any:
        if config.pop("huge") and not rooms[0]():
            jnp.zeros(1 << 50, jnp.int8).block_until_ready()
        return build(config)

    rooms: list[Callable[[], bool]] = [lambda: False]
    for step, folder in ((2, net), (3, net.parent / "_later")):
        config: dict[str, Any] = {"hidden_sizes": [2], "num_classes": 3, "huge": step == 3}
        write_step(folder, step, config={**CONFIG, "family": family(make), "config": config})
    return rooms


def commit(net: Path) -> None:
    """Step 3 is there from now on."""
    (net.parent / "_later" / "3").rename(net / "3")


def test_what_does_not_fit_beside_the_old_one_is_refused(run: Run, net: Path, room: list[Callable[[], bool]]) -> None:
    assert not room[0]()

    async def test(house: House) -> None:
        commit(net)
        for _ in range(2):
            await house.watcher.look()
        assert (await house.answers(), house.refusals("OUT_OF_MEMORY")) == (2, 1)
        assert [step for _, step in house.loads] == [2, 3], "and no older one is tried"
        assert "does not fit into memory" in next(line for line in house.said if line.startswith("refused version 3"))
        with pytest.raises(WrongStateError, match="it does not fit into memory beside what is loaded"):
            await house.operations.load("net", 3)
        assert await house.answers() == 2

    run(test)


def test_the_old_one_is_stopped_first_if_the_operator_says_so(
    run: Run, net: Path, room: list[Callable[[], bool]]
) -> None:

    async def test(house: House) -> None:
        room[0] = lambda: not house.entry().loaded and not house.entry().leaving
        commit(net)
        await house.watcher.look()
        assert (await house.answers(), house.loaded(), house.entry().refused) == (3, [3], {})
        assert "version 3 of net does not fit beside 2: stopping that first" in house.said

    run(test, swap=Swap.STOP_THEN_LOAD)


def test_the_old_one_is_brought_back_if_that_does_not_help(run: Run, net: Path, room: list[Callable[[], bool]]) -> None:
    assert not room[0]()
    (net / "model.toml").write_text('swap = "stop-then-load"\nlabels = {stable = 1}')

    async def test(house: House) -> None:
        house.operations.set_label("net", "kept", 1)
        commit(net)
        for _ in range(2):
            await house.watcher.look()
        assert (await house.answers(), house.loaded()) == (2, [1, 2])
        assert house.entry().labels == {"stable": 1, "kept": 1}
        assert [step for _, step in house.loads] == [2, 1, 3, 3, 2]
        assert await house.answers("stable") == 1

    run(test)


def test_a_call_that_takes_its_time_does_not_keep_what_is_stopped(
    run: Run, net: Path, room: list[Callable[[], bool]]
) -> None:
    async def test(house: House) -> None:
        room[0] = lambda: not house.entry().loaded and not house.entry().leaving

        async def use() -> None:
            house.repository.get("net")
            await asyncio.Event().wait()

        using = asyncio.ensure_future(use())
        await asyncio.sleep(0)
        commit(net)
        await house.watcher.look()
        assert using.cancelled()
        assert (await house.answers(), house.loaded()) == (3, [3])

    run(test, swap=Swap.STOP_THEN_LOAD)


def test_an_operator_who_acts_while_a_version_is_stopped(run: Run, net: Path, room: list[Callable[[], bool]]) -> None:
    """What he says of labels meanwhile is what holds in the end."""
    assert not room[0]()

    async def test(house: House) -> None:
        await house.operations.load("net", 1)
        house.operations.set_label("net", "kept", 1)
        house.operations.set_label("net", "moved", 1)

        def act(line: str) -> None:
            if line == "unloaded net: version 2":
                house.operations.set_label("net", "moved", None)

        house.heard = act
        commit(net)
        await house.watcher.look()
        assert (await house.answers(), house.loaded()) == (2, [1, 2])
        assert house.entry().labels == {"kept": 1}

    run(test, swap=Swap.STOP_THEN_LOAD)


def test_a_version_that_goes_while_its_successor_is_loaded(run: Run, net: Path, room: list[Callable[[], bool]]) -> None:
    """It is none that could be stopped then."""
    assert not room[0]()

    async def test(house: House) -> None:
        loop = asyncio.get_running_loop()

        def unload(_: str, step: int | None) -> None:
            if step == 3:
                asyncio.run_coroutine_threadsafe(house.operations.unload("net", 2), loop).result(60)

        house.before = unload
        commit(net)
        with pytest.raises(WrongStateError, match="it does not fit into memory beside what is loaded"):
            await house.operations.load("net", 3)
        assert house.loaded() == []

    run(test, swap=Swap.STOP_THEN_LOAD)


def test_what_was_loaded_of_a_step_that_is_refused_is_freed(run: Run, net: Path, family: Callable[[Any], str]) -> None:
    """Here the device has no room for what is computed, which shows when it runs for the first time."""
    shape = (1237,)

    def apply(variables: dict[str, jax.Array], inputs: dict[str, jax.Array]) -> jax.Array:
        total = inputs["x"].sum() + variables["w"].sum()
        return inputs["x"] + jnp.sort(total * jnp.arange(1 << 44, dtype=jnp.float32))[0]

    config = {**CONFIG, "family": family(lambda _: apply), "config": {}}
    items = ocp.args.Composite(
        params=ocp.args.StandardSave({"w": np.ones(shape, np.float32)}), config=ocp.args.JsonSave(config)
    )
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        checkpointer.save(net / "3", args=items)

    async def test(house: House) -> None:
        assert (await house.answers(), house.refusals("OUT_OF_MEMORY")) == (2, 1)
        assert [each for each in jax.live_arrays() if each.shape == shape] == []

    gc.disable()
    try:
        run(test)
    finally:
        gc.enable()
