"""What an operator asks for: load, unload, label."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from fluoroscope_server.errors import (
    CheckpointError,
    InvalidRequestError,
    ModelError,
    NotFoundError,
    UnavailableError,
    WrongStateError,
)
from fluoroscope_server.keys import ANYBODY, CALLER, Caller, Scope
from fluoroscope_server.serving import ModelEntry
from fluoroscope_server.settings import ModelSource

from .house import CONFIG, damage, write_step

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


@pytest.mark.parametrize("version", [None, 3])
def test_a_load_that_an_unload_overtakes_says_so(run: Run, net: Path, version: int | None) -> None:
    async def test(house: House) -> None:
        write_step(net, 3)
        begun, unloaded = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def wait(_: str, __: int | None) -> None:
            loop.call_soon_threadsafe(begun.set)
            assert unloaded.wait(30)

        house.before = wait
        asking = asyncio.ensure_future(house.operations.load("net", version))
        await begun.wait()
        await house.operations.unload("net")
        unloaded.set()
        with pytest.raises(WrongStateError, match="it was unloaded while it was being loaded") as overtaken:
            await asking
        assert (overtaken.value.reason, house.loaded()) == ("MODEL_UNLOADED", [])

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
        token = CALLER.set(Caller(name="op", scopes=frozenset({Scope.ADMIN})))
        with pytest.raises(WrongStateError, match=r"cannot be looked at: the server's log says why$"):
            await house.operations.load("net", None)
        CALLER.reset(token)
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
