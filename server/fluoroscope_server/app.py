"""The application: the one place where objects meet. Starts, serves, drains, stops."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Any

from fluoroscope_server.engine import CompileCache, compute_where_called
from fluoroscope_server.errors import SettingsError
from fluoroscope_server.http import HttpServer
from fluoroscope_server.keys import check_exposure
from fluoroscope_server.metrics import Metrics
from fluoroscope_server.rpc import RpcServer
from fluoroscope_server.serving import DeviceQueue, ModelEntry, Operations, Reports, Repository, Swapper, Watcher, load
from fluoroscope_server.stop_signals import stop_signals

if TYPE_CHECKING:
    from collections.abc import Callable

    from fluoroscope_server.serving import Servable
    from fluoroscope_server.settings import ModelSource, Settings

MOST_DEVICE_WORKERS = 8
"""How many threads bring work to the device: while one waits for it, others prepare what comes next. They are no more
than there are cores, and one: where the device is the processor, they compute, and more would only displace each other.
"""


CLOSE_SECONDS = 5.0
"""How long, in the end, the device may take for what it has begun."""

LEAST_PATIENCE = 1.0
"""How many seconds, at least, a call may hold up a version that was unloaded: a slow client is no stalled one."""


class App:
    """A server with its models. Made and used on one event loop.

    `rpc_address` and `http_address` are there once `start` has returned.
    """

    rpc_address: str
    http_address: str

    def __init__(self, settings: Settings, announce: Callable[[str], None] = lambda _: None) -> None:
        """Takes the settings, and whom to tell, in a line of text, how far it has come."""
        compute_where_called()
        self._settings = settings
        self._announce = announce
        self._metrics = Metrics()
        self._repository = Repository()
        for source in settings.models:
            self._repository.put(ModelEntry(source.name, source, watched=settings.watch))
        self._reports = Reports(self._metrics, announce=announce, set_health=self._set_health)
        self._swapper = Swapper(
            self._load,
            self._reports,
            swap=settings.swap,
            patience=max(LEAST_PATIENCE, settings.grace_seconds),
            unread=self._unread,
            end=self._end,
        )
        self._operations = Operations(self._repository, self._swapper, self._reports, folder=settings.repository)
        self._watcher = Watcher(self._repository, self._operations, seconds=settings.poll_seconds)
        self._watching: asyncio.Task[None] | None = None
        self._device = DeviceQueue("device", workers=min(MOST_DEVICE_WORKERS, _cores() + 1))
        self._compile_cache: CompileCache | None = None
        self._ready = False
        self._hurry: asyncio.Future[None] | None = None  # there once a signal has come, done when a second one has

    async def start(self) -> None:
        """Listens, then loads all models; answers with UNAVAILABLE until then.

        Raises:
            SettingsError: an address is wrong or taken, a file of keys is not what it should be, or the repository is
                not there or cannot be listed.
            ModelError: one of `Settings.models` cannot be served. What was begun is stopped again.
        """
        async with contextlib.AsyncExitStack() as undo:
            undo.push_async_callback(self._close_device)
            for warning in check_exposure(self._settings):
                self._announce(f"warning: {warning}")
            folder = self._settings.repository
            if folder is not None and not folder.is_dir():
                raise SettingsError(f"--repository {folder} is no folder; expected one with a folder for each model")
            self._compile_cache = self._open_compile_cache()
            undo.callback(self._close_compile_cache)
            self._http = HttpServer(self._settings.http_listen, self._metrics, lambda: self._ready)
            undo.callback(self._http.close)
            self._rpc = RpcServer(self._repository, self._metrics, self._settings, self._operations)
            undo.push_async_callback(self._end_calls)
            self.rpc_address = await self._rpc.start(self._settings.listen)
            self.http_address = self._http.address
            self._announce(f"gRPC on {self.rpc_address}")
            self._announce(f"metrics on http://{self.http_address}/metrics")
            undo.push_async_callback(self._operations.close)
            await self._load_models()
            undo.pop_all()
        self._ready = True
        self._watching = asyncio.ensure_future(self._watcher.run())
        self._rpc.set_health("", serving=True)

    async def run(self) -> None:
        """Starts and serves until one of the `stop_signals`, then drains and stops. A second ends the waiting at once.

        A signal that comes before all models are loaded ends the loading; calls to those that are there are drained.

        Raises:
            SettingsError, ModelError: as `start` does.
        """
        told, hurry = self._signals()
        starting = asyncio.ensure_future(self.start())
        await asyncio.wait((starting, told), return_when=asyncio.FIRST_COMPLETED)
        self._hurry = hurry
        starting.cancel()
        await asyncio.wait((starting,))
        if not starting.cancelled():
            starting.result()
            self._announce("ready")
            await told
            await self._stop()
        self._announce("stopped")

    @staticmethod
    def _signals() -> tuple[asyncio.Future[None], asyncio.Future[None]]:
        """Returns a future that is done with the first signal, and one that is done with the second."""
        loop = asyncio.get_running_loop()
        futures = loop.create_future(), loop.create_future()

        def on_signal() -> None:
            for future in futures:
                if not future.done():
                    future.set_result(None)
                    return

        for number in stop_signals():
            loop.add_signal_handler(number, on_signal)
        return futures

    async def _stop(self) -> None:
        """Says that it is not ready any more, refuses new calls, waits for those under way, and stops."""
        self._ready = False
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait((self._watching,))
        await self._end_calls()
        await self._operations.close()
        self._repository.close()
        await self._close_device()
        await asyncio.to_thread(self._http.close)  # last, so that the last calls are still counted
        self._close_compile_cache()

    async def _end_calls(self) -> None:
        """Lets calls end, if a signal has come, or ends them, if the start has failed."""
        if self._hurry is None:
            await self._rpc.drain(0)
            return
        self._rpc.retire()
        await self._within(self._settings.drain_delay_seconds, self._hurry)
        await self._drain(self._hurry)

    async def _within(self, seconds: float, hurry: asyncio.Future[None]) -> None:
        """Still answers new calls for so long, until whoever sends them has heard that others should."""
        if seconds:
            self._announce(f"not ready any more: new calls are answered for {seconds:g} s; signal again to end now")
            await asyncio.wait((hurry,), timeout=seconds)

    async def _drain(self, hurry: asyncio.Future[None]) -> None:
        grace = self._settings.grace_seconds
        self._announce(f"draining: calls under way have {grace:g} s; signal again to end now")
        draining = asyncio.ensure_future(self._rpc.drain(grace))
        await asyncio.wait((draining, hurry), return_when=asyncio.FIRST_COMPLETED)
        if not draining.done():
            await self._rpc.drain(0)
        await draining

    async def _close_device(self) -> None:
        """Waits for what the device still computes, though nobody waits for it any more, but not for long."""
        awaited: set[asyncio.Future[None]] = {asyncio.ensure_future(asyncio.to_thread(self._device.close))}
        if self._hurry is not None:
            awaited.add(self._hurry)
        await asyncio.wait(awaited, timeout=CLOSE_SECONDS, return_when=asyncio.FIRST_COMPLETED)

    def _open_compile_cache(self) -> CompileCache | None:
        if self._settings.compile_cache is None:
            return None
        return CompileCache(
            self._settings.compile_cache,
            most_bytes=self._settings.compile_cache_bytes,
            on_lookup=self._metrics.count_lookup,
        )

    def _close_compile_cache(self) -> None:
        if self._compile_cache is not None:
            self._compile_cache.close()

    async def _load_models(self) -> None:
        """Loads what must be there, and then what lies in the repository, of which no model stands in another's way."""
        await self._operations.discover(must=True)
        for source in self._settings.models:
            await self._operations.begin(self._repository.entry(source.name))
        await self._watcher.look()

    def _load(self, source: ModelSource, step: int | None) -> Servable:
        return load(
            source,
            self._device,
            step=step,
            capacity=self._settings.max_programs,
            max_compiles=self._settings.max_compiles,
            max_delay=self._settings.max_delay_seconds,
            on_compile=self._metrics.observe_compile,
            require_seal=self._settings.require_seal,
        )

    def _unread(self, call: asyncio.Task[Any] | None) -> int:
        return self._rpc.gate.unread(call)

    def _end(self, call: asyncio.Task[Any] | None) -> None:
        self._rpc.gate.end_unloaded(call)

    def _set_health(self, name: str, serving: bool) -> None:
        self._rpc.set_health(name, serving=serving)


def _cores() -> int:
    """Returns how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
