"""The gRPC server: services, health and reflection on one port."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

from fluoroscope.v1 import inference_pb2, inspection_pb2, model_pb2
from fluoroscope_server.errors import SettingsError
from fluoroscope_server.keys import Tokens
from fluoroscope_server.rpc.call_log import CallLog
from fluoroscope_server.rpc.certificates import Certificates
from fluoroscope_server.rpc.comparison import ComparisonMethod
from fluoroscope_server.rpc.connection import options_of
from fluoroscope_server.rpc.gate import Gate
from fluoroscope_server.rpc.guard import Guard
from fluoroscope_server.rpc.health import HealthService
from fluoroscope_server.rpc.inference import InferenceService
from fluoroscope_server.rpc.inspection import InspectionService
from fluoroscope_server.rpc.model import ModelService
from fluoroscope_server.rpc.observer import Observer
from fluoroscope_server.rpc.open_calls import OpenCalls
from fluoroscope_server.rpc.open_inference import SERVICE_NAME as OPEN_INFERENCE
from fluoroscope_server.rpc.open_inference import OpenInferenceService
from fluoroscope_server.rpc.reflection import ReflectionService
from fluoroscope_server.rpc.unreadable import log_no_unreadable_metadata
from fluoroscope_server.rpc.vanished import log_no_vanished_clients
from fluoroscope_server.serving import Admission, Limits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fluoroscope_server.metrics import Metrics
    from fluoroscope_server.serving import Operations, Repository
    from fluoroscope_server.settings import Settings

Methods = dict[str, Any]
"""The methods of one service by name, each a grpc.RpcMethodHandler."""

UNLIMITED = {health.SERVICE_NAME, reflection.SERVICE_NAME}
"""Services that answer whatever else is open: who asks for the health of a busy server must not take it for dead."""

ENDING_SECONDS = 0.5
"""How long calls have to tell their clients that the grace is over; then gRPC cuts them off."""

ANSWER_SECONDS = 1.0
"""How long a server that listens where this one shall may take to say so."""


class RpcServer:
    """Owns the port. Everything it does happens on the event loop that made it."""

    def __init__(
        self, repository: Repository, metrics: Metrics, settings: Settings, operations: Operations | None = None
    ) -> None:
        """Registers all services; nothing listens yet. Without `operations`, models stay as they are.

        Raises:
            SettingsError: the tokens or the certificates cannot be read.
        """
        log_no_vanished_clients()
        log_no_unreadable_metadata()
        observer = Observer(metrics, CallLog(settings.log_calls))
        self._admission = admission = Admission(settings)
        # The metrics must not hold the server: gRPC complains of one that is still there when Python ends.
        metrics.follow_open(request_bytes=lambda: admission.open_bytes, clients=lambda: admission.clients)
        self.gate = gate = Gate(admission)
        guard = Guard(Tokens(settings.tokens) if settings.tokens is not None else None)
        self._certificates = _certificates(settings)
        self._server = grpc.aio.server(options=options_of(settings))
        self._health = HealthService()
        for service, methods in self._services(repository, metrics, settings, operations).items():
            paths = {name: f"/{service}/{name}" for name in methods}
            passed = gate.watch if service in UNLIMITED else gate.guard
            gated = {name: passed(each) for name, each in methods.items()}
            observed = {
                name: observer.observe(paths[name], handler, guard.door(paths[name])) for name, handler in gated.items()
            }
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, observed),))

    def _services(
        self, repository: Repository, metrics: Metrics, settings: Settings, operations: Operations | None
    ) -> Mapping[str, Methods]:
        """Returns every service by its full name. To add an RPC: a row here, and its method in the service."""
        limits = Limits(
            max_rows=settings.max_rows,
            max_inspection_bytes=settings.max_inspection_bytes,
            max_answer_bytes=settings.max_answer_bytes,
            max_results=settings.max_results,
            max_queue=settings.max_queue,
        )
        calls = OpenCalls()
        inference = InferenceService(repository, metrics, limits, calls)
        inspection = InspectionService(repository, metrics, limits)
        open_inference = OpenInferenceService(
            repository,
            metrics,
            limits,
            calls,
            self._health,
            admission=self._admission,
            operations=operations,
        )
        comparison = ComparisonMethod(repository, metrics, limits)
        model = ModelService(repository, operations)
        services: dict[str, Methods] = {
            _name(inference_pb2, "InferenceService"): {
                "Predict": grpc.unary_unary_rpc_method_handler(inference.predict)
            },
            _name(inspection_pb2, "InspectionService"): {
                "ListSites": grpc.unary_unary_rpc_method_handler(inspection.list_sites),
                "PlanInspection": grpc.unary_unary_rpc_method_handler(inspection.plan_inspection),
                "InspectActivations": grpc.unary_stream_rpc_method_handler(inspection.inspect_activations),
                "InspectParameters": grpc.unary_stream_rpc_method_handler(inspection.inspect_parameters),
                "CompareActivations": grpc.unary_stream_rpc_method_handler(comparison.compare_activations),
            },
            _name(model_pb2, "ModelService"): {
                "ListModels": grpc.unary_unary_rpc_method_handler(model.list_models),
                "GetModel": grpc.unary_unary_rpc_method_handler(model.get_model),
                "LoadModel": grpc.unary_unary_rpc_method_handler(model.load_model),
                "UnloadModel": grpc.unary_unary_rpc_method_handler(model.unload_model),
                "SetLabel": grpc.unary_unary_rpc_method_handler(model.set_label),
            },
            OPEN_INFERENCE: {
                "ServerLive": grpc.unary_unary_rpc_method_handler(open_inference.server_live),
                "ServerReady": grpc.unary_unary_rpc_method_handler(open_inference.server_ready),
                "ModelReady": grpc.unary_unary_rpc_method_handler(open_inference.model_ready),
                "ServerMetadata": grpc.unary_unary_rpc_method_handler(open_inference.server_metadata),
                "ModelMetadata": grpc.unary_unary_rpc_method_handler(open_inference.model_metadata),
                "ModelInfer": grpc.unary_unary_rpc_method_handler(open_inference.model_infer),
                "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(open_inference.model_stream_infer),
                "ModelConfig": grpc.unary_unary_rpc_method_handler(open_inference.model_config),
                "ModelStatistics": grpc.unary_unary_rpc_method_handler(open_inference.model_statistics),
                "RepositoryIndex": grpc.unary_unary_rpc_method_handler(open_inference.repository_index),
                "RepositoryModelLoad": grpc.unary_unary_rpc_method_handler(open_inference.repository_model_load),
                "RepositoryModelUnload": grpc.unary_unary_rpc_method_handler(open_inference.repository_model_unload),
            },
            health.SERVICE_NAME: {
                "Check": grpc.unary_unary_rpc_method_handler(self._health.check),
                "Watch": grpc.unary_stream_rpc_method_handler(self._health.watch),
            },
        }
        names = [*services, reflection.SERVICE_NAME]
        reflecting = ReflectionService(names)
        services[reflection.SERVICE_NAME] = {
            "ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(reflecting.server_reflection_info)
        }
        return services

    async def start(self, address: str) -> str:
        """Listens, and returns the address with the port that was taken; raises SettingsError if that cannot be."""
        if address.startswith("unix:") and _is_answered(address):  # gRPC would take the place of who listens there
            raise SettingsError(f"cannot listen on {address}: another server is there")
        try:
            if self._certificates is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, self._certificates.credentials())
        except RuntimeError as error:
            raise SettingsError(
                f"cannot listen on {address}: is it an address of this machine, and is another server there?"
            ) from error
        await self._server.start()
        return address if address.startswith(("unix:", "unix-abstract:")) else f"{address.rpartition(':')[0]}:{port}"

    def set_health(self, name: str, *, serving: bool) -> None:
        """Tells those who ask for the health of a model, or with an empty name of the server."""
        self._health.set(name, serving=serving)

    def retire(self) -> None:
        """Tells all who ask for the health that nothing is served any more; calls are still answered."""
        self._health.drain()

    async def drain(self, grace: float) -> None:
        """Refuses new calls and requests, lets those under way end, and ends what is left after `grace` seconds.

        It is this server that refuses, with a clear word, for as long as there is anything under way: of a server that
        stops, gRPC drops calls that are just coming in.
        """
        self.retire()
        self._admission.close()
        self.gate.close()
        if not await self._admission.emptied(grace):
            self.gate.end()
        await self._server.stop(ENDING_SECONDS)


def _is_answered(address: str) -> bool:
    """Returns whether somebody listens on a socket of the file system."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(ANSWER_SECONDS)
        try:
            probe.connect(address.removeprefix("unix:").removeprefix("//"))
        except OSError:
            return False
    return True


def _certificates(settings: Settings) -> Certificates | None:
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    return Certificates(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)


def _name(file: Any, service: str) -> str:
    return str(file.DESCRIPTOR.services_by_name[service].full_name)
