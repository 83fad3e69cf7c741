"""What an operator asks for: load, unload, label; and what becomes of a version for which there is no room."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from fluoroscope_server.errors import (
    CheckpointError,
    InvalidRequestError,
    ModelError,
    NotFoundError,
    UnavailableError,
    WrongStateError,
)
from fluoroscope_server.families.base_network import build
from fluoroscope_server.keys import ANYBODY, CALLER, Caller, Scope
from fluoroscope_server.serving import ModelEntry
from fluoroscope_server.settings import ModelSource, Swap

from .house import CONFIG, damage, write_step

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .house import House

    Run = Callable[..., None]


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """The folder of the model `net`, with steps 1 and 2."""
    model = tmp_path / "models" / "net"
    for step in (1, 2):
        write_step(model, step)
    return model


def test_load(run: Run, net: Path) -> None:
    async def test(house: House) -> None:
        assert house.loaded() == [2]
        await house.operations.load("net", 1)
        await house.watcher.look()
        assert (house.loaded(), await house.answers(1), await house.answers()) == ([1, 2], 1, 2)
        await house.operations.load("net", 1)
        assert len(house.loads) == 2, "what serves already is left as it is"
        write_step(net, 3)
        await house.operations.load("net")
        assert (house.loaded(), await house.answers()) == ([1, 3], 3)
        with pytest.raises(NotFoundError, match="model 'net' has no committed step 7; it has 1, 2, 3"):
            await house.operations.load("net", 7)
        with pytest.raises(NotFoundError, match="there is no model 'other'"):
            await house.operations.load("other")
        write_step(net.parent / "other", 5)
        await house.operations.load("other")
        assert await house.answers(name="other") == 5

    run(test)


def test_load_what_is_refused(run: Run, net: Path) -> None:
    async def test(house: House) -> None:
        damage(write_step(net, 3))
        for version in (None, 3):
            with pytest.raises(WrongStateError, match="the step is refused: model 'net': checkpoint 'net', step 3"):
                await house.operations.load("net", version)
        assert (await house.answers(), house.refusals("UNREADABLE")) == (2, 2)
        assert house.entry().asked == set()
        write_step(net, 3)
        await house.operations.load("net", 3)
        assert await house.answers() == 3

    run(test)


def test_a_family_that_ends_the_process(run: Run, net: Path, family: Callable[[Any], str]) -> None:
    """It ends the load alone."""
    write_step(net, 3, config={**CONFIG, "family": family(lambda _: sys.exit(7))})

    async def test(house: House) -> None:
        assert await house.answers() == 2
        assert any("cannot be loaded: SystemExit: 7; " in line or "SystemExit: 7" in line for line in house.said), (
            house.said
        )
        with pytest.raises(
            WrongStateError, match="the step is refused: it cannot be loaded; the server's log says why"
        ):
            await house.operations.load("net", 3)

    run(test)


def test_a_load_goes_on_if_nobody_waits_for_it(run: Run, net: Path) -> None:
    async def test(house: House) -> None:
        write_step(net, 3)
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()
        house.before = lambda *_: loop.call_soon_threadsafe(begun.set)  # type: ignore[assignment]  # returns a handle
        asking = asyncio.ensure_future(house.operations.load("net", 3))
        await begun.wait()
        asking.cancel()
        await asyncio.wait([asking])
        with pytest.raises(UnavailableError, match="version 3 of model 'net' is still being loaded"):
            await house.answers(3)
        await house.operations.load("net", 3)
        assert (await house.answers(), len(house.loads)) == (3, 2)

    run(test)


def test_unload(run: Run, net: Path) -> None:
    async def test(house: House) -> None:
        await house.operations.unload("net", 2)
        with pytest.raises(UnavailableError, match="was unloaded by an operator"):
            await house.answers()
        assert house.health == {"net": False}
        await house.watcher.look()
        assert await house.answers() == 1, "the one before it takes its place"
        with pytest.raises(NotFoundError, match="version 2 of model 'net' is not loaded; loaded: 1"):
            await house.operations.unload("net", 2)
        write_step(net, 3)
        await house.operations.unload("net")
        await house.watcher.look()
        assert house.loaded() == []
        await house.operations.load("net", 1)
        await house.watcher.look()
        assert house.loaded() == [1]
        await house.operations.load("net")
        assert (await house.answers(), house.health) == (3, {"net": True})

    run(test)


class Node:
    """An object that holds itself, as networks do."""

    def __init__(self) -> None:
        self.itself = self


@pytest.mark.usefixtures("net")
def test_no_collection_looks_at_what_serves(run: Run) -> None:
    """One that did would stop every request; what is let go is found all the same."""

    async def test(house: House) -> None:
        node = Node()
        gone = weakref.ref(node)
        await house.operations.load("net", 1)
        engine = house.entry().loaded[1].servable.engine
        assert not any(each is engine or each is node for each in gc.get_objects())
        del node, engine
        await house.operations.unload("net", 1)
        await house.released()
        assert gone() is None

    try:
        run(test)
    finally:
        gc.unfreeze()


def test_unload_waits_for_requests_under_way(run: Run, net: Path) -> None:
    async def test(house: House) -> None:
        asked, refused, go = asyncio.Event(), asyncio.Event(), asyncio.Event()
        house.health_changed = lambda *_: refused.set()

        async def use() -> None:
            house.repository.get("net")
            asked.set()
            await go.wait()

        using = asyncio.ensure_future(use())
        await asked.wait()
        unloading = asyncio.ensure_future(house.operations.unload("net", 2))
        await refused.wait()
        assert not unloading.done()
        assert f"loading net from {net}" in house.said
        assert "unloaded net: version 2" not in house.said
        go.set()
        await unloading
        assert using.done()
        assert house.said[-1] == "unloaded net: version 2"

    run(test)


def test_labels(run: Run, net: Path) -> None:
    async def test(house: House) -> None:
        house.operations.set_label("net", "stable", 2)
        write_step(net, 3)
        await house.watcher.look()
        assert (await house.answers("stable"), await house.answers()) == (2, 3)
        with pytest.raises(WrongStateError, match=r"label 'x' cannot point to version 1 .*load it first; loaded: 2, 3"):
            house.operations.set_label("net", "x", 1)
        with pytest.raises(InvalidRequestError, match="label name '' may hold letters"):
            house.operations.set_label("net", "", 2)
        with pytest.raises(InvalidRequestError, match="has 1,000,000 letters; the most are 200"):
            house.operations.set_label("net", "a" * 1_000_000, 2)
        for version in (2, None):
            with pytest.raises(WrongStateError, match="model 'net': version 2 is 'stable': let the label point elsewh"):
                await house.operations.unload("net", version)
        house.operations.set_label("net", "stable", 3)
        await house.watcher.look()
        assert (house.loaded(), await house.answers("stable")) == ([3], 3)
        await house.operations.unload("net", force=True)
        assert (house.loaded(), house.entry().labels) == ([], {})
        house.operations.set_label("net", "stable", None)
        await house.operations.load("net")
        with pytest.raises(NotFoundError, match="model 'net' has no label 'stable'; it has none"):
            await house.answers("stable")

    run(test)


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


def test_a_folder_that_cannot_be_looked_at(run: Run, net: Path) -> None:
    """Who asks for what is wanted of it is told so, though an old version serves; and nothing is forgotten."""

    async def test(house: House) -> None:
        await house.operations.load("net", 1)
        await house.operations.unload("net", 1)
        (net / "model.toml").write_text("policy = [")
        for version in (None, 2):
            with pytest.raises(WrongStateError, match=r"model .net. cannot be looked at: .*model\.toml") as caught:
                await house.operations.load("net", version)
            assert caught.value.reason == "MODEL_FAILED"
        assert (await house.answers(), house.entry().dismissed) == (2, {1})

    run(test)


def test_who_may_not_look_inside_is_not_told_what_is_wrong_there(run: Run, net: Path) -> None:
    async def test(house: House) -> None:
        damage(write_step(net, 3))
        operator = Caller(name="op", scopes=frozenset({Scope.ADMIN}))
        for who, words in ((ANYBODY, "checkpoint 'net', step 3"), (operator, "UNREADABLE; the server's log says more")):
            CALLER.set(who)
            with pytest.raises(WrongStateError) as caught:
                await house.operations.load("net", 3)
            assert words in caught.value.message
            assert ("checkpoint" in caught.value.message) is (who is ANYBODY)

    run(test)


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


def test_a_model_that_must_be_there(run: Run, tmp_path: Path, net: Path) -> None:
    async def begin(house: House, path: Path) -> ModelEntry:
        entry = ModelEntry("must", ModelSource(name="must", path=path))
        house.repository.put(entry)
        await house.operations.begin(entry)
        return entry

    async def test(house: House) -> None:
        assert (await begin(house, net)).serving == 2
        broken = tmp_path / "broken"
        for step in (1, 2):
            damage(write_step(broken, step))
        with pytest.raises(CheckpointError, match=f"^model 'must': checkpoint '{broken}', step 2"):
            await begin(house, broken)
        (tmp_path / "empty").mkdir()
        for path in (tmp_path / "nowhere", tmp_path / "empty"):
            with pytest.raises(ModelError, match=f"^model 'must': checkpoint '{path}'"):
                await begin(house, path)

    run(test)


def test_a_model_without_a_folder(run: Run, net: Path) -> None:
    async def test(house: House) -> None:
        house.repository.put(ModelEntry("guest"))
        with pytest.raises(WrongStateError, match="model 'guest' has no folder to load from"):
            await house.operations.load("guest")
        empty = net.parent / "empty"
        empty.mkdir()
        (empty / "model.toml").touch()
        with pytest.raises(WrongStateError, match="model 'empty' has no committed step yet"):
            await house.operations.load("empty")

    run(test)
