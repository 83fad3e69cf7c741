"""The metrics: one value built on a registry that its owner makes, with every series there from the start."""

from __future__ import annotations

import contextlib
import itertools
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder

from fluoroscope_server.errors import REFUSALS
from fluoroscope_server.metrics.counts import Counts
from fluoroscope_server.metrics.durations import TOGETHER, Durations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from fluoroscope_server.metrics.counts import Count
    from fluoroscope_server.metrics.durations import Duration

CODES = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
"""The names of gRPC's status codes."""

STAGES: Mapping[str, tuple[str, ...]] = {
    "Predict": ("decode", "queue", "pad", "compute", "device_to_host", "encode"),
    "InspectActivations": ("decode", "compile", "queue", "pad", "compute", "device_to_host", "send"),
    "CompareActivations": ("decode", "compile", "queue", "pad", "compute", "send"),
    "InspectParameters": ("decode", "compile", "queue", "compute", "device_to_host", "send"),
    "ModelInfer": ("decode", "compile", "queue", "pad", "compute", "device_to_host", "encode"),
}
"""The stages of each method, in the order in which a request goes through them."""

SHED = (
    "CALLS_BUSY",
    "CLIENT_CALLS_BUSY",
    "STREAMS_BUSY",
    "CLIENT_STREAMS_BUSY",
    "WATCHES_BUSY",
    "CLIENT_WATCHES_BUSY",
    "REQUEST_BYTES_BUSY",
    "QUEUE_FULL",
    "COMPILES_BUSY",
    "OUT_OF_MEMORY",
    "REQUEST_TOO_LARGE",
    "ANSWER_TOO_LARGE",
    "INSPECTION_TOO_LARGE",
    "TOO_MANY_RESULTS",
    "TOO_MANY_ROWS",
    "TOO_MANY_CAPTURES",
    "TOO_MANY_GLOBS",
    "TOO_MANY_EDITS",
)
"""The reasons for which a limit refuses a request; the last eight hold for the same request at any time."""

_FAST = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_SLOW = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodMetrics:
    """The series of one gRPC method, found once so that a request does not look for them. The event loop's alone."""

    started: Count
    """Calls begun."""

    handled: Mapping[str, Count]
    """Calls ended, by the name of the status code."""

    seconds: Duration
    """How long calls took."""

    in_flight: Count
    """Calls under way."""

    received: Count
    """Messages that came in."""

    sent: Count
    """Messages that went out."""


class Metrics:
    """All metrics of a server."""

    def __init__(self) -> None:
        """Makes every metric on a registry of its own."""
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # its authors left it untyped
        self.registry = CollectorRegistry(auto_describe=True)
        prometheus_client.ProcessCollector(registry=self.registry)
        prometheus_client.PlatformCollector(registry=self.registry)
        prometheus_client.GCCollector(registry=self.registry)
        self._make_grpc_metrics()
        self._make_limit_metrics()
        self._make_stream_metrics()
        self._make_model_metrics()

    def _make_grpc_metrics(self) -> None:
        method = ("grpc_type", "grpc_service", "grpc_method")
        self._started = Counts(
            "grpc_server_started_total", "RPCs started on the server.", method, registry=self.registry
        )
        self._handled = Counts(
            "grpc_server_handled_total",
            "RPCs completed on the server, whatever their status.",
            (*method, "grpc_code"),
            registry=self.registry,
        )
        self._seconds = Durations(
            "grpc_server_handling_seconds",
            "Time the server took for an RPC.",
            method,
            buckets=_FAST,
            registry=self.registry,
        )
        self._in_flight = Counts(
            "grpc_server_in_flight", "RPCs that are under way.", method, registry=self.registry, gauge=True
        )
        self._received = Counts(
            "grpc_server_msg_received_total", "Messages received from clients.", method, registry=self.registry
        )
        self._sent = Counts("grpc_server_msg_sent_total", "Messages sent to clients.", method, registry=self.registry)

    def _make_limit_metrics(self) -> None:
        self._shed = Counter(
            "fluoroscope_shed_total",
            "Requests that a limit refused, by the reason.",
            ("reason",),
            registry=self.registry,
        )
        for reason in SHED:
            self._shed.labels(reason)
        self._open_bytes = Gauge(
            "fluoroscope_open_request_bytes", "Bytes of the requests that are being answered.", registry=self.registry
        )
        self._clients = Gauge("fluoroscope_clients", "Clients with a call under way.", registry=self.registry)
        self._queue = Gauge(
            "fluoroscope_queue_length", "Predictions that wait for the device.", ("model",), registry=self.registry
        )

    def _make_stream_metrics(self) -> None:
        self._stage_times: dict[str, list[Iterable[tuple[str, float]]]] = {method: [] for method in STAGES}
        self._settling = threading.Lock()
        stage = Durations(
            "fluoroscope_stage_seconds",
            "Time that one stage of a request took.",
            ("method", "stage"),
            buckets=_FAST,
            registry=self.registry,
            settle=self._settle_stages,
        )
        self._stages = {
            method: {name: stage.labels(method, name) for name in stages} for method, stages in STAGES.items()
        }
        self.stream_bytes = Counter(
            "fluoroscope_stream_bytes_total", "Bytes of tensors streamed to clients.", registry=self.registry
        )
        self.stream_chunks = Counter(
            "fluoroscope_stream_chunks_total", "Chunks streamed to clients.", registry=self.registry
        )
        self.first_result_seconds = Durations(
            "fluoroscope_first_result_seconds",
            "Time from the arrival of an inspection to its first tensor or summary on the wire.",
            buckets=_FAST,
            registry=self.registry,
        ).labels()

    def _make_model_metrics(self) -> None:
        self._compile_seconds = Histogram(
            "fluoroscope_compile_seconds", "Time to compile one program.", buckets=_SLOW, registry=self.registry
        )
        programs = Counter(
            "fluoroscope_program_requests_total",
            "Inspections, by whether their program was held already.",
            ("result",),
            registry=self.registry,
        )
        self._program_requests = {held: programs.labels("held" if held else "compiled") for held in (True, False)}
        lookups = Counter(
            "fluoroscope_compile_cache_total",
            "Programs that were looked for in the folder of the compile cache.",
            ("result",),
            registry=self.registry,
        )
        self._lookups = {hit: lookups.labels("hit" if hit else "miss") for hit in (True, False)}
        self._model_info = Gauge(
            "fluoroscope_model_info",
            "1 for each version of a model that is loaded.",
            ("model", "version", "family", "device"),
            registry=self.registry,
        )
        self._load_seconds = Gauge(
            "fluoroscope_model_load_seconds",
            "Time it took to load, compile and warm up a version of a model.",
            ("model", "version"),
            registry=self.registry,
        )
        self._parameter_bytes = Gauge(
            "fluoroscope_model_parameter_bytes",
            "Bytes of the weights of a version of a model on the device.",
            ("model", "version"),
            registry=self.registry,
        )
        self._serving_version = Gauge(
            "fluoroscope_model_serving_version",
            "The version of a model that answers requests which name none.",
            ("model",),
            registry=self.registry,
        )
        self._refused = Counter(
            "fluoroscope_refused_checkpoints_total",
            "Steps that were tried and do not serve.",
            ("model", "reason"),
            registry=self.registry,
        )
        self._refusals: dict[str, dict[str, Counter]] = {}

    def method(self, grpc_type: str, service: str, name: str) -> MethodMetrics:
        """Returns the series of one method; from now on they are exported, at 0."""
        labels = (grpc_type, service, name)
        return MethodMetrics(
            started=self._started.labels(*labels),
            handled={code: self._handled.labels(*labels, code) for code in CODES},
            seconds=self._seconds.labels(*labels),
            in_flight=self._in_flight.labels(*labels),
            received=self._received.labels(*labels),
            sent=self._sent.labels(*labels),
        )

    def observe_stages(self, method: str, times: Iterable[tuple[str, float]]) -> None:
        """Counts how long the stages of one request took, in seconds; on the event loop alone."""
        new = self._stage_times[method]
        new.append(times)
        if len(new) >= TOGETHER:
            self._settle_stages()

    def _settle_stages(self) -> None:
        """Gives the times that came since the last time to the series of the stages."""
        with self._settling:
            for method, new in self._stage_times.items():
                count = len(new)  # more may come meanwhile, behind these
                taken = new[:count]
                del new[:count]
                for stage, seconds in itertools.chain.from_iterable(taken):
                    self._stages[method][stage].observe(seconds)

    def observe_compile(self, seconds: float) -> None:
        """Counts one compilation."""
        self._compile_seconds.observe(seconds)

    def count_shed(self, reason: str) -> None:
        """Counts one request that a limit refused."""
        self._shed.labels(reason).inc()

    def follow_open(self, *, request_bytes: Callable[[], int], clients: Callable[[], int]) -> None:
        """Exports the bytes of the requests that are being answered, and the clients who wait, when it is scraped."""
        self._open_bytes.set_function(request_bytes)
        self._clients.set_function(clients)

    def follow_queue(self, model: str, length: Callable[[], int]) -> None:
        """Exports how many predictions of a model wait, asked when it is scraped."""
        self._queue.labels(model).set_function(length)

    def count_lookup(self, hit: bool) -> None:
        """Counts one program by whether the compile cache's folder had it."""
        self._lookups[hit].inc()

    def count_program(self, *, held: bool) -> None:
        """Counts one inspection by whether its program was held already."""
        self._program_requests[held].inc()

    def model_loaded(
        self, *, name: str, version: int, family: str, device: str, seconds: float, parameter_bytes: int
    ) -> None:
        """Exports a version of a model that is now loaded."""
        self._model_info.labels(name, str(version), family, device).set(1)
        self._load_seconds.labels(name, str(version)).set(seconds)
        self._parameter_bytes.labels(name, str(version)).set(parameter_bytes)

    def model_unloaded(self, *, name: str, version: int, family: str, device: str) -> None:
        """Takes back what was exported of a version that is now unloaded."""
        _remove(self._model_info, name, str(version), family, device)
        _remove(self._load_seconds, name, str(version))
        _remove(self._parameter_bytes, name, str(version))

    def model_added(self, name: str) -> None:
        """Exports what is counted of each model, at 0."""
        self._refusals[name] = {reason: self._refused.labels(name, reason) for reason in REFUSALS}

    def model_removed(self, name: str) -> None:
        """Takes back what is exported of a model that is not there any more."""
        self.model_serves(name, None)
        _remove(self._queue, name)
        for reason in self._refusals.pop(name, ()):
            _remove(self._refused, name, reason)

    def model_serves(self, name: str, version: int | None) -> None:
        """Exports which version of a model answers; nothing if none does."""
        if version is not None:
            self._serving_version.labels(name).set(version)
            return
        _remove(self._serving_version, name)

    def checkpoint_refused(self, name: str, reason: str) -> None:
        """Counts a step that was tried and does not serve."""
        series = self._refused.labels(name, reason)
        self._refusals.setdefault(name, {})[reason] = series
        series.inc()

    def render(self, accept: str) -> tuple[str, bytes]:
        """Returns the content type and the body that a scraper with this Accept header wants."""
        encode, content_type = choose_encoder(accept)
        return content_type, encode(self.registry)


def _remove(metric: Counter | Gauge, *labels: str) -> None:
    """Exports a series no more, if it was."""
    with contextlib.suppress(KeyError):
        metric.remove(*labels)
