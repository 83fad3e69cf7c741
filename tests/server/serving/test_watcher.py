"""Models that are watched: real steps come, go and break, and what is served is always a whole network."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import threading
import weakref
from typing import TYPE_CHECKING

import jax
import numpy as np
import pytest

from fluoroscope_server.checkpoints import seal
from fluoroscope_server.errors import FluoroscopeError, UnavailableError
from fluoroscope_server.serving import ModelEntry, StageClock
from fluoroscope_server.settings import ModelSource

from .house import damage, write_step

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .house import House

    Run = Callable[..., None]


def test_a_new_step_takes_the_place_of_the_old_whose_memory_is_freed(run: Run, net: Path) -> None:
    async def test(house: House) -> None:
        assert await house.answers() == 1
        held = [weakref.ref(leaf) for leaf in house.entry().loaded[1].servable.engine._leaves]
        gc.collect()
        before = len(jax.live_arrays())
        write_step(net, 2)
        await house.watcher.look()
        assert await house.answers() == 2
        await house.released()
        assert [each() for each in held] == [None] * len(held)
        assert len(jax.live_arrays()) <= before
        assert house.loaded() == [2]
        assert house.sample("fluoroscope_model_serving_version", model="net") == 2
        info = {"model": "net", "family": "base_network", "device": "cpu"}
        assert house.sample("fluoroscope_model_info", version="2", **info) == 1
        assert house.sample("fluoroscope_model_info", version="1", **info) is None
        assert [line.partition(" (")[0].partition(",")[0] for line in house.said] == [
            f"loading net from {net}",
            "loaded net: version 1",
            "loading net",
            "loaded net: version 2",
            "unloaded net: version 1",
        ]

    run(test)


def test_requests_under_way_are_finished_on_the_old_version(run: Run, net: Path) -> None:
    async def test(house: House) -> None:
        asked, go = asyncio.Event(), asyncio.Event()

        async def slow() -> int:
            servable = house.repository.get("net")
            asked.set()
            await go.wait()
            outputs = await servable.predict({"x": np.ones((1, 2), np.float32)}, (), StageClock())
            return int(outputs["logits"][0, 0])

        under_way = asyncio.ensure_future(slow())
        await asked.wait()
        write_step(net, 2)
        await house.watcher.look()
        assert await house.answers() == 2
        assert [(each.version, each.state.name) for each in house.entry().statuses()] == [
            (1, "UNLOADING"),
            (2, "READY"),
        ]
        with pytest.raises(FluoroscopeError, match="has no version 1; it has 2"):
            await house.answers(1)
        go.set()
        assert await under_way == 1
        await house.released()
        assert [each.version for each in house.entry().statuses()] == [2]

    run(test)


def test_a_step_that_is_broken_is_refused_until_it_changes(run: Run, net: Path) -> None:
    async def test(house: House) -> None:
        damage(write_step(net, 2))
        for _ in range(3):
            await house.watcher.look()
        assert await house.answers() == 1
        assert house.loads == [("net", 1), ("net", 2)], "it is not tried again and again"
        assert house.refusals("UNREADABLE") == 1
        (line,) = [line for line in house.said if line.startswith("refused")]
        assert line.startswith(f"refused version 2 of net: model 'net': checkpoint '{net}', step 2")
        assert line.endswith("; version 1 goes on serving")
        refused = house.entry().statuses()[1]
        assert (refused.version, refused.state.name) == (2, "FAILED")
        assert "checkpoint 'net', step 2" in refused.reason
        assert str(net) not in refused.reason
        write_step(net, 2)
        await house.watcher.look()
        assert await house.answers() == 2
        assert house.refusals("UNREADABLE") == 1

    run(test)


def test_a_step_that_cannot_be_read_is_refused_until_it_can(run: Run, net: Path) -> None:
    """A name that is too long stands for what is another user's: nobody can follow it, not even root."""
    write_step(net, 2)
    (net / "2").rename(net.parent.parent / "2")
    (net / "2").symlink_to("x" * 300)

    async def test(house: House) -> None:
        await house.watcher.look()
        assert (await house.answers(), house.refusals("UNREADABLE")) == (1, 1)
        (net / "2").unlink()
        (net.parent.parent / "2").rename(net / "2")
        await house.watcher.look()
        assert await house.answers() == 2

    run(test)


def test_a_step_serves_once_it_is_sealed(run: Run, net: Path) -> None:
    async def test(house: House) -> None:
        house.require_seal = True
        write_step(net, 2)
        for _ in range(2):
            await house.watcher.look()
        assert (await house.answers(), house.refusals("UNSEALED"), len(house.loads)) == (1, 1, 2)
        seal(net, 2)
        await house.watcher.look()
        assert await house.answers() == 2
        assert house.entry().loaded[2].servable.sealed
        house.require_seal = False
        await house.watcher.look()
        assert len(house.loads) == 3, "what serves is not loaded again because of a seal"

    run(test)


def test_the_newest_that_is_whole_serves_from_the_start(run: Run, net: Path) -> None:
    write_step(net, 2)
    for step in (3, 4):
        damage(write_step(net, step))

    async def test(house: House) -> None:
        assert await house.answers() == 2
        assert [step for _, step in house.loads] == [4, 3, 2]
        assert house.health == {"net": True}

    run(test)


def test_a_save_under_way_is_not_there_yet(run: Run, net: Path) -> None:
    async def test(house: House) -> None:
        folder = write_step(net, 2)
        unfinished = folder.rename(net / "2.orbax-checkpoint-tmp-0")
        (net / "3").mkdir()
        await house.watcher.look()
        assert (await house.answers(), [step for _, step in house.loads]) == (1, [1])
        unfinished.rename(folder)
        await house.watcher.look()
        assert await house.answers() == 2
        assert house.refusals("UNREADABLE") == 0

    run(test)


def test_a_step_that_is_deleted_while_it_is_loaded(run: Run, net: Path) -> None:
    async def test(house: House) -> None:
        write_step(net, 2)
        write_step(net, 3)
        house.before = lambda _, step: shutil.rmtree(net / "3", ignore_errors=True) if step == 3 else None
        await house.watcher.look()
        assert await house.answers() == 2
        assert [step for _, step in house.loads] == [1, 3, 2]
        assert house.refusals("UNREADABLE") == 0
        assert "version 3 of net was changed or deleted while it was being loaded" in house.said

    run(test)


def test_a_step_that_is_saved_anew_takes_its_own_place(run: Run, net: Path) -> None:
    async def test(house: House) -> None:
        write_step(net, 1, value=1.5)
        await house.watcher.look()
        assert await house.ask() == (1, 1.5)
        damage(write_step(net, 1))
        await house.watcher.look()
        await house.watcher.look()
        assert await house.ask() == (1, 1.5)
        assert len(house.loads) == 3
        assert house.entry().statuses()[0].reason.startswith("a newer save of it was refused: ")
        await house.released()
        version = {"model": "net", "version": "1"}
        assert house.sample("fluoroscope_model_load_seconds", **version) is not None

    run(test)


@pytest.mark.parametrize("watched", [True, False])
def test_a_step_of_the_same_sizes_and_times_takes_its_own_place(run: Run, net: Path, watched: bool) -> None:
    """Where files come from an image or a store, all may have one time."""
    other = write_step(net.parent.parent / "other", 1, value=1.5)
    for file in [*net.rglob("*"), *other.rglob("*")]:
        os.utime(file, (1, 1))

    async def test(house: House) -> None:
        assert await house.ask() == (1, 1)
        (net / "1").rename(net.parent.parent / "old")
        other.rename(net / "1")
        await (house.watcher.look() if watched else house.operations.load("net", 1))
        assert await house.ask() == (1, 1.5)

    run(test)


def test_the_policy_of_a_model_file(run: Run, net: Path) -> None:
    for step in (2, 3):
        write_step(net, step)
    file = net / "model.toml"
    file.write_text("versions = {latest = 2}\nlabels = {stable = 1}")

    async def test(house: House) -> None:
        assert house.loaded() == [1, 2, 3]
        assert (await house.answers("stable"), await house.answers(2), await house.answers()) == (1, 2, 3)
        write_step(net, 4)
        file.write_text("labels = {stable = 2, gone = 7}")
        await house.watcher.look()
        assert (house.loaded(), house.entry().labels) == ([2, 4], {"stable": 2})
        file.write_text("versions = [1, 3]")
        await house.watcher.look()
        assert (house.loaded(), house.entry().labels) == ([1, 3], {})
        file.write_text("versions = ")
        await house.watcher.look()
        await house.watcher.look()
        assert house.loaded() == [1, 3]
        assert len([line for line in house.said if "model.toml cannot be read" in line]) == 1

    run(test)


def test_models_that_come_and_go(run: Run, net: Path) -> None:
    async def test(house: House) -> None:
        other = net.parent / "other"
        write_step(other, 7)
        write_step(net.parent / "a b", 8)
        broken = net.parent / "broken"
        damage(write_step(broken, 9))
        (net.parent / "soon").mkdir()
        (net.parent / "soon" / "model.toml").touch()
        for _ in range(2):
            await house.watcher.look()
        assert await house.answers(name="other") == 7
        assert house.repository.names() == ["broken", "net", "other", "soon"]
        assert house.health == {"broken": False, "net": True, "other": True, "soon": False}
        with pytest.raises(
            UnavailableError, match=r"model 'broken' has no version that serves; 9 was refused: .* cannot be read"
        ):
            await house.answers(name="broken")
        assert len([line for line in house.said if "model name 'a b' may hold letters" in line]) == 1
        write_step(net.parent / "soon", 1)
        shutil.rmtree(other)
        shutil.rmtree(broken)
        await house.watcher.look()
        assert await house.answers(name="soon") == 1
        assert house.repository.names() == ["net", "soon"]
        assert house.health["other"] is False
        assert house.sample("fluoroscope_refused_checkpoints_total", model="broken", reason="UNREADABLE") is None
        await house.released()

    run(test)


def test_a_policy_that_names_steps_that_are_not_there(run: Run, net: Path) -> None:
    """Until they come: a trainer may write them yet."""

    async def test(house: House) -> None:
        other = net.parent / "other"
        write_step(other, 7)
        (other / "model.toml").write_text("versions = [9]\n[labels]\nstable = 8\n")
        (net / "model.toml").write_text("[labels]\nold = 0\n")
        for _ in range(2):
            await house.watcher.look()
        told = "in its model.toml `versions` names 9, label 'stable' names 8, and there is no such step: there are 7"
        with pytest.raises(UnavailableError, match=f"model 'other' has nothing to serve: {told}") as caught:
            await house.answers(name="other")
        assert caught.value.reason == "MODEL_FAILED"
        assert house.said.count(f"model 'other': {told}") == 1
        said = "model 'net': in its model.toml label 'old' names 0, and there is no such step: there are 1"
        assert house.said.count(said) == 1
        assert await house.answers() == 1
        write_step(other, 9)
        await house.watcher.look()
        assert await house.answers(name="other") == 9
        write_step(other, 8)
        await house.watcher.look()
        assert house.entry("other").labels == {"stable": 8}

    run(test)


def test_a_model_that_is_gone_for_a_while_keeps_its_metrics(run: Run, net: Path) -> None:
    """Though a call that used it before ends only then."""

    async def test(house: House) -> None:
        version = {"model": "net", "version": "1"}
        with house.repository.using("net"):
            shutil.move(net, net.parent / ".away")
            await house.watcher.look()
            shutil.move(net.parent / ".away", net)
            await house.watcher.look()
        await house.released()
        assert house.said[-1] == "unloaded net: version 1"
        assert house.sample("fluoroscope_model_parameter_bytes", **version) == 60
        shutil.rmtree(net)
        await house.watcher.look()
        await house.released()
        assert house.sample("fluoroscope_model_parameter_bytes", **version) is None

    run(test)


def test_what_is_refused_of_a_model_that_is_gone_is_not_counted(run: Run, net: Path) -> None:
    async def test(house: House) -> None:
        begun, gone = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def wait(name: str, _: int | None) -> None:
            loop.call_soon_threadsafe(begun.set)
            assert gone.wait(30), name

        house.before = wait
        damage(write_step(net, 2))
        looking = asyncio.ensure_future(house.operations.reconcile(house.entry()))
        await begun.wait()
        shutil.move(net, net.parent / ".away")
        await house.operations.discover()
        shutil.move(net.parent / ".away", net)
        gone.set()
        await looking
        assert any(line.startswith("refused version 2 of net") for line in house.said)
        assert house.sample("fluoroscope_refused_checkpoints_total", model="net", reason="UNREADABLE") is None

    run(test)


def test_a_model_under_another_name_than_its_folder_stays(run: Run, net: Path) -> None:
    async def test(house: House) -> None:
        entry = ModelEntry("prod", ModelSource(name="prod", path=net))
        house.repository.put(entry)
        await house.operations.begin(entry)
        await house.watcher.look()
        assert (await house.answers(name="prod"), house.repository.names()) == (1, ["net", "prod"])
        shutil.rmtree(net)
        await house.watcher.look()
        assert (await house.answers(name="prod"), house.repository.names()) == (1, ["prod"])

    run(test)


def test_a_repository_that_cannot_be_listed_changes_nothing(run: Run, net: Path) -> None:
    async def test(house: House) -> None:
        net.parent.rename(net.parent.with_name("away"))
        for _ in range(2):
            await house.watcher.look()
        assert await house.answers() == 1
        assert len([line for line in house.said if "cannot be listed" in line]) == 1
        net.parent.with_name("away").rename(net.parent)
        write_step(net, 2)
        await house.watcher.look()
        assert await house.answers() == 2

    run(test)


def test_it_looks_again_and_again(run: Run, net: Path) -> None:
    async def test(house: House) -> None:
        swapped = asyncio.Event()
        house.heard = lambda line: swapped.set() if line.startswith("unloaded net: version 1") else None
        watching = asyncio.ensure_future(house.watcher.run())
        write_step(net, 2)
        await swapped.wait()
        watching.cancel()
        assert await house.answers() == 2

    run(test)


def test_a_model_that_is_being_loaded_does_not_keep_the_others_serving(run: Run, net: Path) -> None:
    async def test(house: House) -> None:
        begun, unloaded, go = asyncio.Event(), asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def wait(name: str, _: int | None) -> None:
            loop.call_soon_threadsafe(begun.set)
            assert go.wait(30), name

        house.before = wait
        house.heard = lambda line: unloaded.set() if line.startswith("unloaded net") else None
        write_step(net.parent / "abacus", 1)
        watching = asyncio.ensure_future(house.watcher.run())
        try:
            await begun.wait()
            shutil.rmtree(net)
            await asyncio.wait_for(unloaded.wait(), 20)
            assert house.repository.names() == ["abacus"]
            assert house.loads == [("net", 1), ("abacus", 1)]
        finally:
            go.set()
            watching.cancel()
            await asyncio.wait((watching,))

    run(test)


def test_one_model_does_not_keep_the_others_waiting(run: Run, net: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever happens to it: here somebody who listens fails."""

    async def test(house: House) -> None:
        def fail(line: str) -> None:
            if line.startswith("loading abacus"):
                raise ZeroDivisionError

        house.heard = fail
        write_step(net.parent / "abacus", 1)
        write_step(net, 2)
        await house.watcher.look()
        assert (await house.answers(), house.loaded("abacus")) == (2, [])
        assert "model 'abacus' could not be looked at" in caplog.text
        house.heard = lambda _: None
        await house.watcher.look()
        assert await house.answers(name="abacus") == 1

    run(test)
