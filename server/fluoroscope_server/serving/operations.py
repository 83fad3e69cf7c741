"""Operations: what an operator asks of the models, from afar or by what lies in their folders."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from fluoroscope_server.errors import InvalidRequestError, ModelError, NotFoundError, SettingsError, WrongStateError
from fluoroscope_server.serving.model_entry import ModelEntry
from fluoroscope_server.serving.model_file import read_model_file
from fluoroscope_server.serving.refusal import CHANGED, MEMORY, refusal_of
from fluoroscope_server.serving.steps import scan_models, scan_steps
from fluoroscope_server.serving.wanted import next_step, superseded, wanted
from fluoroscope_server.settings import ModelSource, check_name

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from fluoroscope_server.serving.refusal import Refusal
    from fluoroscope_server.serving.reports import Reports
    from fluoroscope_server.serving.repository import Repository
    from fluoroscope_server.serving.steps import Step
    from fluoroscope_server.serving.swap import Swapper

T = TypeVar("T")


class Operations:
    """Brings models to what is wanted of them. Belongs to the event loop; what it begins, it ends, whoever gives up."""

    def __init__(
        self, repository: Repository, swapper: Swapper, reports: Reports, *, folder: Path | None = None
    ) -> None:
        """Takes the models, what loads them, whom to tell, and the folder whose folders are models, if there is one."""
        self._repository = repository
        self._swapper = swapper
        self._reports = reports
        self._folder = folder
        self._discovering = asyncio.Lock()
        self._looking = asyncio.Lock()  # so that many models do not take all threads, and are loaded in their order
        self._begun: set[asyncio.Task[Any]] = set()

    async def begin(self, entry: ModelEntry) -> None:
        """Loads a model that must be there when the server starts.

        Raises:
            ModelError: none of its steps can be served; the message says what is wrong with the newest.
        """
        self._reports.added(entry)
        refusals = await self._bring(entry)
        if entry.loaded:
            return
        if refusals:
            raise refusals[0].error
        await self._swapper.complain(entry.where())
        if entry.lacking:
            raise ModelError(f"model {entry.name!r} {entry.idleness[1]}")
        raise ModelError(f"model {entry.name!r}: its first step was committed just now; start the server again")

    async def discover(self, *, must: bool = False) -> None:
        """Takes note of the folders that have come, and of those that are gone.

        Raises:
            SettingsError: the repository cannot be listed though it `must` be: nobody knows yet which models there are.
        """
        if self._folder is not None:
            async with self._discovering:
                await self._discover(self._folder, must=must)

    async def reconcile(self, entry: ModelEntry) -> list[Refusal]:
        """Brings a model to what its policy wants of the steps that lie there; returns what was refused meanwhile."""
        return await self._to_its_end(self._bring(entry))

    async def load(self, name: str, version: int | None = None) -> ModelEntry:
        """Loads a version, or with None what the policy wants now, refused or not; returns when it serves.

        Raises:
            NotFoundError: there is no such model or step.
            WrongStateError: the step is refused; the message says why, and `reason` is one of `errors.REFUSALS`. Or
                it was unloaded meanwhile.
        """
        if name not in self._repository.names():
            await self.discover()
        entry = self._repository.entry(name)
        entry.where()
        await self._to_its_end(self._load_now(entry) if version is None else self._load_version(entry, version))
        return entry

    async def unload(self, name: str, version: int | None = None, *, force: bool = False) -> ModelEntry:
        """Unloads a version, or with None all; returns when their requests have ended and their memory is free.

        They stay away until somebody loads them by hand, or the server starts anew.

        Raises:
            NotFoundError: there is no such model, or the version is not loaded.
            WrongStateError: a label names it; with `force` the label goes, too.
        """
        entry = self._repository.entry(name)
        versions = list(entry.loaded) if version is None else [version]
        if version is not None and version not in entry.loaded:
            raise _not_loaded(entry, version)
        labels = {each: entry.labels_of(each) for each in versions if entry.labels_of(each)}
        if labels and not force:
            raise _labelled(entry, labels)
        for label in (label for each in labels.values() for label in each):
            entry.set_label(label, None)
        entry.asked.difference_update(versions)
        entry.dismissed.update(versions)
        if version is None:
            entry.stopped = True
            entry.asked.clear()
        releases = [self._swapper.unload(entry, each) for each in versions]
        await asyncio.shield(asyncio.gather(*releases))
        return entry

    def set_label(self, name: str, label: str, version: int | None) -> ModelEntry:
        """Lets a label point to a version, or with None to nothing.

        Raises:
            InvalidRequestError: that is no name for a label.
            NotFoundError: there is no such model.
            WrongStateError: the version is not loaded.
        """
        entry = self._repository.entry(name)
        try:
            check_name("label", label)
        except SettingsError as error:
            raise InvalidRequestError(error.message, field="label") from error
        if version is not None and version not in entry.loaded:
            there = ", ".join(map(str, sorted(entry.loaded))) or "none"
            raise WrongStateError(
                f"label {label!r} cannot point to version {version} of model {name!r}, which is not loaded: load it "
                f"first; loaded: {there}",
                field="version",
                reason="VERSION_NOT_LOADED",
            )
        entry.set_label(label, version)
        return entry

    async def close(self) -> None:
        """Gives up what is under way."""
        for each in self._begun:
            each.cancel()
        await asyncio.gather(*self._begun, return_exceptions=True)
        await self._swapper.close()

    # --- one model at a time

    async def _bring(self, entry: ModelEntry) -> list[Refusal]:
        async with entry.lock:
            return await self._settle(entry)

    async def _settle(self, entry: ModelEntry) -> list[Refusal]:
        refusals: list[Refusal] = []
        found = await self._look(entry)
        while found is not None and not entry.removed and (step := next_step(entry, found)) is not None:
            refusal = await self._load_step(entry, found, step)
            if refusal is not None:
                refusals.append(refusal)
            if refusal is not None and refusal.kind == MEMORY and entry.loaded:
                break  # an older one is no smaller
        if found is not None and not entry.removed:
            entry.settle_labels()
            for version in superseded(entry, found):
                self._swapper.unload(entry, version)
        return refusals

    async def _load_now(self, entry: ModelEntry) -> None:
        async with entry.lock:
            if await self._look(entry) is None:
                raise _cannot_be_looked_at(entry)
            entry.stopped = False
            entry.dismissed.clear()
            entry.refused.clear()
            refusals = await self._settle(entry)
        for refusal in refusals:
            if refusal.kind != CHANGED or not entry.loaded:
                raise refusal.as_error()
        if not entry.loaded and (entry.removed or entry.stopped or entry.dismissed):
            raise _unloaded_meanwhile(entry)
        if not entry.loaded:
            raise WrongStateError(f"model {entry.name!r} has no committed step yet", field="model", reason="NO_STEP")

    async def _load_version(self, entry: ModelEntry, version: int) -> None:
        async with entry.lock:
            found = await self._look(entry)
            if found is None:
                raise _cannot_be_looked_at(entry)
            if version not in found:
                raise _no_step(entry, version, found)
            entry.asked.add(version)
            entry.dismissed.discard(version)
            loaded = entry.loaded.get(version)
            if loaded is not None and loaded.saved in (None, found[version].saved):
                return
            refusal = await self._load_step(entry, found, found[version])
            if refusal is not None:
                if loaded is None:
                    entry.asked.discard(version)
                raise refusal.as_error()
            if version not in entry.loaded:
                raise _unloaded_meanwhile(entry)

    async def _look(self, entry: ModelEntry) -> dict[int, Step] | None:
        """Reads the model's policy and its steps; None if that is impossible, which changes nothing."""
        source = entry.where()
        try:
            async with self._looking:
                file = await asyncio.to_thread(read_model_file, source.path)
                found = await asyncio.to_thread(scan_steps, source.path, closely=tuple(entry.refused))
        except ModelError as error:
            entry.trouble = refusal_of(error, source.path, contents=None).reason
            self._reports.trouble(entry.name, f"model {entry.name!r}: {error.message}; nothing changes until that does")
            return None
        entry.trouble = ""
        self._reports.trouble(entry.name, "")
        entry.policy = file.policy
        entry.lacking = file.policy.lacking(found.keys() | entry.loaded.keys())
        told = f"model {entry.name!r}: in its model.toml {entry.lacking}" if entry.lacking else ""
        self._reports.trouble(f"{entry.name}, versions", told)
        for version in entry.refused.keys() - found.keys():
            del entry.refused[version]
        return found

    async def _load_step(self, entry: ModelEntry, found: dict[int, Step], step: Step) -> Refusal | None:
        async with self._looking:
            step = await asyncio.to_thread(step.looked_into, entry.where().path)
        found[step.version] = step

        def replaces() -> list[int]:  # asked for late: an operator may move a label, or unload, while it is loaded
            keep = wanted(entry, found) - {step.version}
            return [version for version in entry.loaded if version not in keep]

        refusal = await self._swapper.load(entry, step, replaces=replaces)
        if refusal is not None and refusal.kind == CHANGED:
            del found[step.version]
        return refusal

    # --- the models

    async def _discover(self, folder: Path, *, must: bool) -> None:
        ours = {entry.name: entry for entry in self._repository.entries() if entry.discovered}
        try:
            found = await asyncio.to_thread(scan_models, folder, known=ours)
        except OSError as error:
            problem = f"the repository {folder} cannot be listed: {error.strerror}"
            if must:
                raise SettingsError(f"{problem}; give the server read access to the folder") from error
            self._reports.trouble("repository", f"{problem}; what is loaded goes on serving")
            return
        self._reports.trouble("repository", "")
        for name in found.keys() - self._repository.names():
            try:
                check_name("model", name)
            except SettingsError as error:
                self._reports.trouble(f"folder {name}", f"a folder of the repository is left out: {error.message}")
            else:
                source = ModelSource(name=name, path=found[name])
                entry = ModelEntry(name, source, watched=True, discovered=True)
                self._repository.put(entry)
                self._reports.added(entry)
        for name in ours.keys() - found.keys():
            self._remove(ours[name])

    def _remove(self, entry: ModelEntry) -> None:
        entry.removed = True
        for version in list(entry.loaded):
            self._swapper.unload(entry, version)
        self._repository.remove(entry.name)
        self._reports.removed(entry)

    async def _to_its_end(self, work: Coroutine[Any, Any, T]) -> T:
        """Waits for work that goes on even if the one who waits gives up."""
        task = asyncio.ensure_future(work)
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)
        return await asyncio.shield(task)


def _unloaded_meanwhile(entry: ModelEntry) -> WrongStateError:
    why = "its folder was removed" if entry.removed else "it was unloaded"
    return WrongStateError(
        f"model {entry.name!r} does not serve: {why} while it was being loaded; load it again if it is wanted",
        field="model",
        reason="MODEL_UNLOADED",
    )


def _cannot_be_looked_at(entry: ModelEntry) -> WrongStateError:
    return WrongStateError(f"model {entry.name!r} {entry.told_trouble}", field="model", reason="MODEL_FAILED")


def _not_loaded(entry: ModelEntry, version: int) -> NotFoundError:
    there = ", ".join(map(str, sorted(entry.loaded))) or "none"
    return NotFoundError(
        f"version {version} of model {entry.name!r} is not loaded; loaded: {there}",
        field="version",
        reason="VERSION_NOT_FOUND",
    )


def _labelled(entry: ModelEntry, labels: dict[int, tuple[str, ...]]) -> WrongStateError:
    named = "; ".join(f"version {each} is {', '.join(map(repr, names))}" for each, names in sorted(labels.items()))
    return WrongStateError(
        f"model {entry.name!r}: {named}: let the label point elsewhere first, or force it",
        field="version",
        reason="VERSION_LABELLED",
    )


def _no_step(entry: ModelEntry, version: int, found: dict[int, Step]) -> NotFoundError:
    there = ", ".join(map(str, sorted(found))) or "none"
    return NotFoundError(
        f"model {entry.name!r} has no committed step {version}; it has {there}",
        field="version",
        reason="VERSION_NOT_FOUND",
    )
