"""The application: the one place where objects meet. Starts, serves, drains, stops."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from fluoroscope_server.engine import CompileCache
from fluoroscope_server.http import HttpServer
from fluoroscope_server.keys import check_exposure
from fluoroscope_server.metrics import Metrics
from fluoroscope_server.rpc import RpcServer
from fluoroscope_server.serving import DeviceQueue, Repository, load

if TYPE_CHECKING:
    from collections.abc import Callable

    from fluoroscope_server.serving import Servable
    from fluoroscope_server.settings import ModelSource, Settings

DEVICE_WORKERS = 8
"""How many threads bring work to the device: while one waits for it, others prepare what comes next, and where the
device is the processor, XLA's own threads find work instead of spinning."""


class App:
    """A server with its models. Made and used on one event loop.

    `rpc_address` and `http_address` are there once `start` has returned.
    """

    rpc_address: str
    http_address: str

    def __init__(self, settings: Settings, announce: Callable[[str], None] = lambda _: None) -> None:
        """Takes the settings, and whom to tell, in a line of text, how far it has come."""
        self._settings = settings
        self._announce = announce
        self._metrics = Metrics()
        self._repository = Repository(source.name for source in settings.models)
        self._device = DeviceQueue("device", workers=DEVICE_WORKERS)
        self._compile_cache: CompileCache | None = None
        self._ready = False

    async def start(self) -> None:
        """Listens, then loads all models; answers with UNAVAILABLE until then.

        Raises:
            SettingsError: an address is wrong or taken, or a file of keys is not what it should be.
            ModelError: a model cannot be served. What was begun is stopped again.
        """
        async with contextlib.AsyncExitStack() as undo:
            undo.callback(self._device.close)
            for warning in check_exposure(self._settings):
                self._announce(f"warning: {warning}")
            self._compile_cache = self._open_compile_cache()
            undo.callback(self._close_compile_cache)
            self._http = HttpServer(self._settings.http_listen, self._metrics, lambda: self._ready)
            undo.callback(self._http.close)
            self._rpc = RpcServer(self._repository, self._metrics, self._settings)
            undo.push_async_callback(self._rpc.drain, 0)
            self.rpc_address = await self._rpc.start(self._settings.listen)
            self.http_address = self._http.address
            self._announce(f"gRPC on {self.rpc_address}")
            self._announce(f"metrics on http://{self.http_address}/metrics")
            await self._load_models()
            undo.pop_all()
        self._ready = True
        self._rpc.set_health("", serving=True)

    async def serve(self) -> None:
        """Serves until SIGTERM or SIGINT, then drains and stops. A second signal ends the drain at once."""
        stop = [asyncio.Event(), asyncio.Event()]

        def on_signal() -> None:
            stop[1 if stop[0].is_set() else 0].set()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal)
        self._announce("ready")  # only now: whoever hears it may send a signal at once
        await stop[0].wait()
        ending = asyncio.ensure_future(stop[1].wait())
        await self.stop(ending)
        ending.cancel()
        self._announce("stopped")

    async def stop(self, hurry: asyncio.Future[Any] | None = None) -> None:
        """Says that it is not ready any more, refuses new calls, waits for those under way, and stops.

        Args:
            hurry: ends the waiting when it is done.
        """
        self._ready = False
        self._rpc.retire()
        await self._within(self._settings.drain_delay_seconds, hurry)
        await self._drain(hurry)
        self._repository.close()
        await asyncio.to_thread(self._device.close)
        await asyncio.to_thread(self._http.close)  # last, so that the last calls are still counted
        self._close_compile_cache()

    async def _within(self, seconds: float, hurry: asyncio.Future[Any] | None) -> None:
        """Still answers new calls for so long, until whoever sends them has heard that others should."""
        if not seconds:
            return
        self._announce(f"not ready any more: new calls are answered for {seconds:g} s; signal again to end now")
        if hurry is None:
            await asyncio.sleep(seconds)
        else:
            await asyncio.wait((hurry,), timeout=seconds)

    async def _drain(self, hurry: asyncio.Future[Any] | None) -> None:
        grace = self._settings.grace_seconds
        self._announce(f"draining: calls under way have {grace:g} s; signal again to end now")
        draining = asyncio.ensure_future(self._rpc.drain(grace))
        if hurry is not None:
            await asyncio.wait((draining, hurry), return_when=asyncio.FIRST_COMPLETED)
            if not draining.done():
                await self._rpc.drain(0)
        await draining

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
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="load") as loader:
            for source in self._settings.models:
                self._announce(f"loading {source.name} from {source.path}")
                servable = await loop.run_in_executor(loader, self._load, source)
                await self._add(servable)

    def _load(self, source: ModelSource) -> Servable:
        return load(
            source,
            self._device,
            capacity=self._settings.max_programs,
            max_compiles=self._settings.max_compiles,
            max_delay=self._settings.max_delay_seconds,
            on_compile=self._metrics.observe_compile,
            require_seal=self._settings.require_seal,
        )

    async def _add(self, servable: Servable) -> None:
        self._repository.add(servable)
        engine = servable.engine
        self._metrics.model_loaded(
            name=servable.name,
            version=servable.version,
            family=servable.family,
            device=engine.device,
            seconds=servable.load_seconds,
            parameter_bytes=engine.parameter_bytes,
        )
        self._metrics.follow_queue(servable.name, lambda: servable.batcher.waiting)
        self._rpc.set_health(servable.name, serving=True)
        self._announce(
            f"loaded {servable.name}: version {servable.version} "
            f"({'sealed' if servable.sealed else 'not sealed'}, {servable.digest[:12]}), "
            f"{engine.parameter_count:,} parameters, {len(engine.sites):,} sites, "
            f"batches to {engine.buckets[-1]}, on {engine.device}, in {servable.load_seconds:.1f} s"
        )
