"""Swapping: a new version of a model takes the place of the old one, and no request notices."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from fluoroscope_server.allocator import give_back
from fluoroscope_server.errors import CheckpointError, ModelError
from fluoroscope_server.garbage import look_again, set_aside
from fluoroscope_server.serving.model_entry import Loaded
from fluoroscope_server.serving.refusal import CHANGED, MEMORY, refusal_of
from fluoroscope_server.serving.steps import scan_steps
from fluoroscope_server.settings import Swap

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from fluoroscope_server.checkpoints import Stamp
    from fluoroscope_server.serving.model_entry import ModelEntry
    from fluoroscope_server.serving.refusal import Refusal
    from fluoroscope_server.serving.reports import Reports
    from fluoroscope_server.serving.servable import Servable
    from fluoroscope_server.serving.steps import Step
    from fluoroscope_server.serving.users import Call
    from fluoroscope_server.settings import ModelSource

    Loader: TypeAlias = Callable[[ModelSource, int | None], Servable]
    Replaced: TypeAlias = Callable[[], Collection[int]]


class Swapper:
    """Loads versions, one at a time and off the event loop, and lets go of those that nobody needs any more.

    A version that is loaded has compiled every bucket and has run: it answers from one turn of the event loop to the
    next. One that is let go gets no new requests; when those under way have ended, its memory is freed. A call whose
    client takes nothing of its answer any more does not hold that up for ever.
    """

    def __init__(
        self,
        load: Loader,
        reports: Reports,
        *,
        swap: Swap = Swap.KEEP,
        patience: float = 30.0,
        unread: Callable[[Call], int],
        end: Callable[[Call], None],
    ) -> None:
        """Takes what loads.

        Args:
            load: makes a servable of a model's step, or of its newest with None; called on a thread, may take long, and
                raises ModelError.
            reports: told what happens.
            swap: what to do when a new version does not fit beside the old one, unless the model says it.
            patience: how many seconds a client may take nothing of its answer while a version waits to be freed; and
                how many a call may go on whose version is stopped so that another fits.
            unread: returns which message of a call its client has not taken yet, by some number; 0 if it waits for us.
            end: ends a call.
        """
        self._load = load
        self._reports = reports
        self._swap = swap
        self._patience = patience
        self._unread = unread
        self._end = end
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="load")
        self._one_at_a_time = asyncio.Lock()
        self._releases: set[asyncio.Task[None]] = set()

    async def load(self, entry: ModelEntry, step: Step, *, replaces: Replaced = tuple) -> Refusal | None:
        """Loads a step and lets it answer; returns why it does not serve, None if it does.

        Args:
            entry: the model.
            step: the step, looked into.
            replaces: returns the versions that nobody will need once it serves, of those that are loaded; they may be
                stopped first if it does not fit beside them, and the operator has said so.
        """
        async with self._one_at_a_time:
            refusal = await self._try(entry, step)
            swap = entry.policy.swap or self._swap
            if refusal is not None and refusal.kind == MEMORY and swap is Swap.STOP_THEN_LOAD and (old := replaces()):
                refusal = await self._stop_then_load(entry, step, old)
        if refusal is None:
            entry.refused.pop(step.version, None)
        elif refusal.kind == CHANGED:
            self._reports.changed(entry, step.version)
        else:
            entry.refused[step.version] = refusal
            self._reports.refused(entry, step.version, refusal)
        return refusal

    def unload(self, entry: ModelEntry, version: int, *, at_once: bool = False) -> asyncio.Task[None]:
        """Sends a version no more requests; the task ends when those under way have ended and its memory is free.

        With `at_once` calls that take longer than our patience are ended, otherwise only those that nobody reads.
        """
        loaded = entry.loaded.pop(version)
        for label in entry.labels_of(version):
            del entry.labels[label]
        self._reports.settled(entry)
        return self._release(entry, loaded, at_once=at_once)

    async def released(self) -> None:
        """Returns when all that was unloaded so far is gone, and its memory is free."""
        while self._releases:
            await asyncio.wait(self._releases)

    async def complain(self, source: ModelSource) -> None:
        """Loads a model of which nothing could be found, so that the one who knows says what is wrong with it.

        Raises:
            ModelError: always, but if it has come right meanwhile.
        """
        await self._in_thread(source, None)

    async def close(self) -> None:
        """Loads nothing more, and waits for no request any more."""
        # A load under way goes on, on its thread; whoever ends the process need not wait for it.
        self._thread.shutdown(wait=False, cancel_futures=True)
        for each in self._releases:
            each.cancel()
        await asyncio.gather(*self._releases, return_exceptions=True)

    async def _try(self, entry: ModelEntry, step: Step) -> Refusal | None:
        self._reports.loading(entry, step.version)
        try:
            servable = await self._read(entry, step.version)
        except ModelError as error:
            folder = entry.where().path
            refusal = refusal_of(error, folder, contents=step.contents)
            if refusal.kind != MEMORY and await asyncio.to_thread(_has_changed, step, folder):
                return replace(refusal, kind=CHANGED, reason="it was changed or deleted while it was loaded")
            return refusal
        self._switch(entry, Loaded(servable=servable, saved=step.saved))
        return None

    def _switch(self, entry: ModelEntry, loaded: Loaded) -> None:
        """Lets a version answer, unless an operator has changed his mind meanwhile."""
        version = loaded.servable.version
        if entry.removed or not entry.wants(version):
            self._release(entry, loaded)
            return
        before = entry.loaded.get(version)
        entry.loaded[version] = loaded
        entry.settle_labels()
        self._reports.loaded(entry, loaded.servable)
        if before is not None:
            self._release(entry, before)

    async def _stop_then_load(self, entry: ModelEntry, step: Step, replaces: Collection[int]) -> Refusal | None:
        """Makes room, loads, and brings back what was stopped if that fails."""
        stopped = {version: entry.loaded[version].saved for version in sorted(replaces, reverse=True)}
        names = ", ".join(map(str, stopped))
        self._reports.announce(
            f"version {step.version} of {entry.name} does not fit beside {names}: stopping that first"
        )
        labels = {label: version for label, version in entry.labels.items() if version in stopped}
        entry.loading = step.version  # so that who asks now is told to come again
        await asyncio.gather(*(self.unload(entry, version, at_once=True) for version in stopped))
        refusal = await self._try(entry, step)
        if refusal is not None:
            for version, saved in stopped.items():
                await self._bring_back(entry, version, saved)
        for label, version in labels.items():
            if version in entry.loaded:
                entry.labels.setdefault(label, version)  # unless an operator has moved it meanwhile
        return refusal

    async def _bring_back(self, entry: ModelEntry, version: int, saved: Stamp | None) -> None:
        try:
            servable = await self._read(entry, version)
        except ModelError as error:
            self._reports.announce(f"version {version} of {entry.name} cannot be brought back: {error.message}")
            return
        self._switch(entry, Loaded(servable=servable, saved=saved))

    def _release(self, entry: ModelEntry, loaded: Loaded, *, at_once: bool = False) -> asyncio.Task[None]:
        entry.leaving.append(loaded)
        task = asyncio.ensure_future(self._let_go(entry, loaded, at_once=at_once))
        self._releases.add(task)
        task.add_done_callback(self._releases.discard)
        return task

    async def _let_go(self, entry: ModelEntry, loaded: Loaded, *, at_once: bool) -> None:
        await self._ended(loaded, at_once=at_once)
        entry.leaving.remove(loaded)
        await asyncio.to_thread(loaded.servable.engine.close)
        self._reports.unloaded(entry, loaded.servable)
        del loaded
        await asyncio.to_thread(_free)

    async def _ended(self, loaded: Loaded, *, at_once: bool) -> None:
        """Returns when all calls that use a version have ended; ends those that hold it up."""
        before: dict[Call, int] = {}
        while not await loaded.users.gone(self._patience):
            unread = {call: self._unread(call) for call in loaded.users.calls()}
            held_up = [call for call, message in unread.items() if at_once or (message and message == before.get(call))]
            for call in held_up:
                self._end(call)
            if held_up:
                self._reports.ended(loaded.servable, len(held_up))
            before = unread

    async def _read(self, entry: ModelEntry, version: int) -> Servable:
        entry.loading = version
        try:
            return await self._in_thread(entry.where(), version)
        finally:
            entry.loading = None

    async def _in_thread(self, source: ModelSource, version: int | None) -> Servable:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._load_to_stay, source, version)

    def _load_to_stay(self, source: ModelSource, version: int | None) -> Servable:
        servable = self._load(source, version)
        set_aside()
        return servable


def _free() -> None:
    look_again()
    give_back()


def _has_changed(step: Step, model: Path) -> bool:
    """Returns whether a step is not what it was before it was read: nothing is known of it then, good or bad."""
    try:
        found = scan_steps(model, closely=[step.version]).get(step.version)
    except CheckpointError:
        return True
    return found is None or found.contents != step.contents
