"""Reports: what becomes of models, told in the log, in the metrics, and to who asks for their health."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from fluoroscope_server.metrics import Metrics
    from fluoroscope_server.serving.model_entry import ModelEntry
    from fluoroscope_server.serving.refusal import Refusal
    from fluoroscope_server.serving.servable import Servable


class Reports:
    """Tells what happens to models. Belongs to the event loop."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        announce: Callable[[str], None] = lambda _: None,
        set_health: Callable[[str, bool], None] = lambda _, __: None,
    ) -> None:
        """Takes where to count, whom to tell in a line of text, and what knows the health of each model."""
        self._metrics = metrics
        self._set_health = set_health
        self._known: dict[str, ModelEntry] = {}
        self._said: dict[str, str] = {}
        self.announce = announce

    def added(self, entry: ModelEntry) -> None:
        """A model is known."""
        self._known[entry.name] = entry
        self._metrics.model_added(entry.name)
        self._metrics.follow_queue(entry.name, lambda: entry.waiting)
        self._set_health(entry.name, False)

    def removed(self, entry: ModelEntry) -> None:
        """A model is known no more."""
        del self._known[entry.name]
        self._metrics.model_removed(entry.name)
        self._set_health(entry.name, False)
        self.announce(f"removed {entry.name}: its folder is gone")

    def loading(self, entry: ModelEntry, version: int) -> None:
        """A version is about to be loaded."""
        where = "" if entry.source is None else f" from {entry.source.path}"
        self.announce(f"loading {entry.name}{f', version {version}' if entry.loaded else where}")

    def loaded(self, entry: ModelEntry, servable: Servable) -> None:
        """A version answers from now on."""
        engine = servable.engine
        self._metrics.model_loaded(
            name=servable.name,
            version=servable.version,
            family=servable.family,
            device=engine.device,
            seconds=servable.load_seconds,
            parameter_bytes=engine.parameter_bytes,
        )
        self.settled(entry)
        self.announce(
            f"loaded {servable.name}: version {servable.version} "
            f"({'sealed' if servable.sealed else 'not sealed'}, {servable.digest[:12]}), "
            f"{engine.parameter_count:,} parameters, {len(engine.sites):,} sites, "
            f"batches to {engine.buckets[-1]}, on {engine.device}, in {servable.load_seconds:.1f} s"
        )

    def refused(self, entry: ModelEntry, version: int, refusal: Refusal) -> None:
        """A version was tried and does not serve."""
        if not entry.removed:
            self._metrics.checkpoint_refused(entry.name, refusal.kind)
        serving = "none serves" if entry.serving is None else f"version {entry.serving} goes on serving"
        self.announce(f"refused version {version} of {entry.name}: {refusal.error.message}; {serving}")

    def changed(self, entry: ModelEntry, version: int) -> None:
        """A version was changed or deleted while it was being loaded."""
        self.announce(f"version {version} of {entry.name} was changed or deleted while it was being loaded")

    def unloaded(self, entry: ModelEntry, servable: Servable) -> None:
        """The last request of a version has ended, and its memory is free."""
        now = self._known.get(entry.name)  # which is another one if its folder was gone for a while
        if now is None or servable.version not in now.loaded:
            self._metrics.model_unloaded(
                name=servable.name,
                version=servable.version,
                family=servable.family,
                device=servable.engine.device,
            )
        self.announce(f"unloaded {entry.name}: version {servable.version}")

    def ended(self, servable: Servable, count: int) -> None:
        """Calls that held up a version which had been unloaded were ended."""
        calls = "a call was" if count == 1 else f"{count} calls were"
        self.announce(f"{calls} ended that held up version {servable.version} of {servable.name}, which was unloaded")

    def settled(self, entry: ModelEntry) -> None:
        """Which version of a model answers may have changed."""
        self._metrics.model_serves(entry.name, entry.serving)
        self._set_health(entry.name, entry.serving is not None)

    def trouble(self, subject: str, problem: str) -> None:
        """Something cannot be looked at; said once, until it changes. An empty problem means that all is well."""
        if problem and self._said.get(subject) != problem:
            self.announce(problem)
        self._said[subject] = problem
