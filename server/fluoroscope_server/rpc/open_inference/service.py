"""GRPCInferenceService: predictions, and values inside the network, for the clients of the Open Inference Protocol."""

from __future__ import annotations

import asyncio
import contextlib
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from fluoroscope_server.errors import (
    FluoroscopeError,
    InvalidRequestError,
    LimitExceededError,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
    quoted,
)
from fluoroscope_server.keys import caller
from fluoroscope_server.rpc.call_log import call_id_of
from fluoroscope_server.rpc.changes import changes
from fluoroscope_server.rpc.context import current_client
from fluoroscope_server.rpc.decoding import parse
from fluoroscope_server.rpc.open_inference.description import config_of, metadata_of
from fluoroscope_server.rpc.open_inference.inference import open_inference_pb2 as messages
from fluoroscope_server.rpc.open_inference.question import capture_of, check_told_apart
from fluoroscope_server.rpc.open_inference.statistics import statistics_of
from fluoroscope_server.rpc.open_inference.tensors import add_output, decode_inputs, requested_outputs
from fluoroscope_server.rpc.status import message_of
from fluoroscope_server.serving import StageClock

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence

    from fluoroscope_server.engine import Capture, ResultSpec
    from fluoroscope_server.metrics import Metrics
    from fluoroscope_server.rpc.context import Context
    from fluoroscope_server.rpc.health import HealthService
    from fluoroscope_server.rpc.open_calls import OpenCalls
    from fluoroscope_server.serving import Admission, Answer, Limits, Operations, Repository, Selector, Servable

SERVICE_NAME = str(messages.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name)
"""The full name of the service."""

EXTENSIONS = ("model_configuration", "model_repository", "statistics", "sites")
"""The extensions of the protocol that this server has; the last is its own."""

QUICK_BYTES = 64 << 10
"""A request without raw inputs that is larger is decoded by another thread: its elements take 0.1 microseconds each."""

MOST_DIGITS = 19
"""How many digits a version may be written with: no number of 64 bits has more, and of thousands Python makes none."""


class OpenInferenceService:
    """Takes and gives serialized messages, so that parsing them is a stage that is measured."""

    def __init__(
        self,
        repository: Repository,
        metrics: Metrics,
        limits: Limits,
        calls: OpenCalls,
        health: HealthService,
        *,
        admission: Admission,
        operations: Operations | None = None,
    ) -> None:
        """Takes the models, where to count, what a request may ask for, the open predictions, and the health.

        What only its request shows of a call, `admission` counts. Without `operations`, models stay as they are.
        """
        self._repository = repository
        self._metrics = metrics
        self._limits = limits
        self._admission = admission
        self._calls = calls
        self._health = health
        self._operations = operations

    async def server_live(self, data: bytes, context: Context) -> bytes:  # noqa: ARG002 (gRPC passes it)
        """Answers one `ServerLive`."""
        parse(messages.ServerLiveRequest, data)
        return messages.ServerLiveResponse(live=True).SerializeToString()

    async def server_ready(self, data: bytes, context: Context) -> bytes:  # noqa: ARG002 (gRPC passes it)
        """Answers one `ServerReady`."""
        parse(messages.ServerReadyRequest, data)
        return messages.ServerReadyResponse(ready=self._health.serving("")).SerializeToString()

    async def model_ready(self, data: bytes, context: Context) -> bytes:  # noqa: ARG002 (gRPC passes it)
        """Answers one `ModelReady`: what is not there is not ready."""
        request = parse(messages.ModelReadyRequest, data)
        try:
            self._find(request.name, request.version)
        except (NotFoundError, UnavailableError):
            return messages.ModelReadyResponse(ready=False).SerializeToString()
        return messages.ModelReadyResponse(ready=True).SerializeToString()

    async def server_metadata(self, data: bytes, context: Context) -> bytes:  # noqa: ARG002 (gRPC passes it)
        """Answers one `ServerMetadata`."""
        parse(messages.ServerMetadataRequest, data)
        response = messages.ServerMetadataResponse(
            name="fluoroscope", version=version("fluoroscope"), extensions=EXTENSIONS
        )
        return response.SerializeToString()

    async def model_metadata(self, data: bytes, context: Context) -> bytes:  # noqa: ARG002 (gRPC passes it)
        """Answers one `ModelMetadata`."""
        request = parse(messages.ModelMetadataRequest, data)
        servable = self._find(request.name, request.version)
        versions = sorted(self._repository.entry(request.name).loaded)
        return metadata_of(servable, versions).SerializeToString()

    async def model_config(self, data: bytes, context: Context) -> bytes:  # noqa: ARG002 (gRPC passes it)
        """Answers one `ModelConfig`."""
        request = parse(messages.ModelConfigRequest, data)
        config = config_of(self._find(request.name, request.version))
        return messages.ModelConfigResponse(config=config).SerializeToString()

    async def model_statistics(self, data: bytes, context: Context) -> bytes:  # noqa: ARG002 (gRPC passes it)
        """Answers one `ModelStatistics`."""
        request = parse(messages.ModelStatisticsRequest, data)
        found = self._meant(request.name, request.version)
        response = messages.ModelStatisticsResponse(model_stats=[statistics_of(each) for each in found])
        return response.SerializeToString()

    async def repository_index(self, data: bytes, context: Context) -> bytes:  # noqa: ARG002 (gRPC passes it)
        """Answers one `RepositoryIndex`."""
        request = parse(messages.RepositoryIndexRequest, data)
        response = messages.RepositoryIndexResponse()
        for entry in map(self._repository.entry, self._visible()):
            for number in sorted(entry.loaded):
                response.models.add(name=entry.name, version=str(number), state="READY")
            if not entry.loaded and not request.ready:
                reason, why = entry.idleness
                state = "LOADING" if reason == "MODEL_LOADING" else "UNAVAILABLE"
                response.models.add(name=entry.name, state=state, reason=f"model {entry.name!r} {why}")
        return response.SerializeToString()

    async def repository_model_load(self, data: bytes, context: Context) -> bytes:  # noqa: ARG002 (gRPC passes it)
        """Answers one `RepositoryModelLoad`: what the model's own policy wants."""
        request = parse(messages.RepositoryModelLoadRequest, data)
        for name in request.parameters:
            raise InvalidRequestError(
                f"parameter {quoted(name)} is not taken: a client cannot say what a network is; its folder does",
                field=f"parameters[{name}]",
            )
        with _unknown():
            await changes(self._operations, request.model_name).load(request.model_name)
        return messages.RepositoryModelLoadResponse().SerializeToString()

    async def repository_model_unload(self, data: bytes, context: Context) -> bytes:  # noqa: ARG002 (gRPC passes it)
        """Answers one `RepositoryModelUnload`: all versions, unless a label names one."""
        request = parse(messages.RepositoryModelUnloadRequest, data)
        with _unknown():
            await changes(self._operations, request.model_name).unload(request.model_name)
        return messages.RepositoryModelUnloadResponse().SerializeToString()

    async def model_infer(self, data: bytes, context: Context) -> bytes:
        """Answers one `ModelInfer`: everything in one message."""
        clock = StageClock()
        self._calls.open(context)
        request = parse(messages.ModelInferRequest, data)
        servable = self._find(request.model_name, request.model_version)
        with servable.tally.counting_failure(clock):
            capture, client = capture_of(request), current_client()
            if capture is None:
                response = await self._predict(request, servable, clock, client)
            else:
                counted = contextlib.ExitStack()  # until the answer has left: a client may be slow to take it
                context.add_done_callback(lambda _: counted.close())  # type: ignore[arg-type]  # the stub's is a class
                counted.enter_context(self._admission.inspection(client))
                answer = await self._ask(request, servable, capture, clock, client)
                counted.enter_context(self._admission.answer(answer.inspection.byte_size, request=len(data)))
                response = _together(request, servable, [each async for each in self._values(servable, answer, clock)])
        message = response.SerializeToString()
        clock.lap("encode")
        self._metrics.observe_stages("ModelInfer", clock.times)
        return message

    async def model_stream_infer(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        """Answers one `ModelStreamInfer`: each request in its turn, what is inside the network value by value."""
        self._calls.open(context)
        async for data in requests:
            async with contextlib.aclosing(self._converse(data, context)) as responses:
                async for response in responses:
                    yield response
            del data  # a stream may be silent for days, and its last request be large

    async def _converse(self, data: bytes, context: Context) -> AsyncGenerator[bytes, None]:
        """Yields the answers to one request of a stream; an error is one of them, unless it is of no use to go on."""
        identity = ""
        try:
            with self._admission.message(len(data)):
                request = parse(messages.ModelInferRequest, data)
                identity = request.id
                async for response in self._answers(request, current_client()):
                    yield messages.ModelStreamInferResponse(infer_response=response).SerializeToString()
        except PermissionDeniedError:
            raise
        except FluoroscopeError as error:
            if isinstance(error, LimitExceededError):
                self._metrics.count_shed(error.reason)
            yield _failure(identity, f"{message_of(error)} (request {identity or call_id_of(context)!r})")

    async def _answers(
        self, request: messages.ModelInferRequest, client: str
    ) -> AsyncIterator[messages.ModelInferResponse]:
        """Yields the answers to one request of a stream; the last one says that it is the last."""
        clock = StageClock()
        with self._using(request.model_name, request.model_version) as servable:  # a stream may last for days
            with servable.tally.counting_failure(clock):
                capture = capture_of(request)
                if capture is None:
                    last = await self._predict(request, servable, clock, client)
                else:
                    last = None
                    answer = await self._ask(request, servable, capture, clock, client)
                    async for spec, array in self._values(servable, answer, clock):
                        if last is not None:
                            yield _marked(last, final=False)
                        last = _empty(request, servable)
                        add_output(last, spec.name, array)
            clock.lap("encode")
            self._metrics.observe_stages("ModelInfer", clock.times)
            yield _marked(last or _empty(request, servable), final=True)

    async def _predict(
        self, request: messages.ModelInferRequest, servable: Servable, clock: StageClock, client: str
    ) -> messages.ModelInferResponse:
        servable.check_queue(self._limits)
        inputs = await _inputs(request, servable)
        wanted = requested_outputs(request, servable.engine.signature)
        outputs = await servable.predict(
            inputs, wanted, clock, client=client, alone=self._calls.one, limits=self._limits
        )
        response = _empty(request, servable)
        for name in wanted or outputs:
            add_output(response, name, outputs[name])
        return response

    async def _ask(
        self, request: messages.ModelInferRequest, servable: Servable, capture: Capture, clock: StageClock, client: str
    ) -> Answer:
        answer = await servable.inspect(
            await _inputs(request, servable),
            [capture],
            requested_outputs(request, servable.engine.signature),
            one_message=True,
            clock=clock,
            client=client,
            limits=self._limits,
        )
        check_told_apart(answer.inspection.results)
        self._metrics.count_program(held=answer.held)
        return answer

    async def _values(
        self, servable: Servable, answer: Answer, clock: StageClock
    ) -> AsyncIterator[tuple[ResultSpec, np.ndarray]]:
        specs = iter(answer.inspection.results)
        laps = iter(("device_to_host",))
        async for results in answer.results():
            for stage in laps:  # of the first results; the rest is a part of the answer's making
                clock.lap(stage)
            for result in results:
                assert isinstance(result, np.ndarray)  # noqa: S101 (captures without reductions are tensors)
                yield next(specs), result
        servable.tally.answered(answer.inspection.rows, clock)

    def _find(self, name: str, version: str) -> Servable:
        """Returns the servable that a request means, kept until the call has ended."""
        with _unknown():
            return self._repository.get(name, _selector(version))

    @contextlib.contextmanager
    def _using(self, name: str, version: str) -> Iterator[Servable]:
        """Returns the servable that one request of a stream means, kept until the context ends."""
        with contextlib.ExitStack() as stack:
            with _unknown():
                servable = stack.enter_context(self._repository.using(name, _selector(version)))
            yield servable

    def _visible(self) -> list[str]:
        return [name for name in self._repository.names() if caller().sees(name)]

    def _meant(self, name: str, version: str) -> list[Servable]:
        """Returns what is loaded of the versions that a request means; without a name, those of all models."""
        if not name:
            return [servable for each in self._visible() for servable in self._loaded(each)]
        found = self._find(name, version)  # or it says why there is none
        return [found] if version else self._loaded(name)

    def _loaded(self, name: str) -> list[Servable]:
        """Returns all versions of a model that answer, by number."""
        loaded = self._repository.entry(name).loaded
        return [loaded[number].servable for number in sorted(loaded)]


async def _inputs(request: messages.ModelInferRequest, servable: Servable) -> dict[str, np.ndarray]:
    """Returns the inputs of a request; while many elements are converted that are not raw, others are served."""
    signature = servable.engine.signature
    if request.raw_input_contents or request.ByteSize() <= QUICK_BYTES:
        return decode_inputs(request, signature)
    return await asyncio.to_thread(decode_inputs, request, signature)


@contextlib.contextmanager
def _unknown() -> Iterator[None]:
    """Says of a model that is not there what these clients look for."""
    try:
        yield
    except NotFoundError as error:
        words, field = f"Request for unknown model: {error.message}", error.field
        if error.reason == "LABEL_NOT_FOUND":
            words, field = (
                f"{words}; a version is a number of {MOST_DIGITS} digits at most, or a label",
                "model_version",
            )
        raise NotFoundError(words, field=field, reason=error.reason) from error


def _selector(version: str) -> Selector:
    """Returns the version that a request names: what cannot be a number is a label."""
    if version.isascii() and version.isdigit() and len(version) <= MOST_DIGITS:
        return int(version)
    return version or None


def _empty(request: messages.ModelInferRequest, servable: Servable) -> messages.ModelInferResponse:
    return messages.ModelInferResponse(model_name=servable.name, model_version=str(servable.version), id=request.id)


def _together(
    request: messages.ModelInferRequest, servable: Servable, values: Sequence[tuple[ResultSpec, np.ndarray]]
) -> messages.ModelInferResponse:
    """Returns the one answer to a request: the outputs, and behind them what is at sites, which was computed before."""
    response = _empty(request, servable)
    for spec, array in sorted(values, key=lambda value: value[0].site is not None):
        add_output(response, spec.name, array)
    return response


def _marked(response: messages.ModelInferResponse, *, final: bool) -> messages.ModelInferResponse:
    response.parameters["triton_final_response"].bool_param = final
    return response


def _failure(identity: str, message: str) -> bytes:
    response = messages.ModelInferResponse(id=identity)
    return messages.ModelStreamInferResponse(error_message=message, infer_response=response).SerializeToString()
