"""InspectionService: looks inside the network while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fluoroscope.v1 import inspection_pb2 as inspection
from fluoroscope.wire import StreamSplitter, tensor_bytes
from fluoroscope_server.engine import SiteKind, check_names
from fluoroscope_server.errors import InvalidRequestError
from fluoroscope_server.rpc.context import current_client
from fluoroscope_server.rpc.decoding import (
    decode_captures,
    decode_execution,
    decode_inputs,
    decode_kinds,
    decode_parameter_captures,
    decode_version,
    parse,
)
from fluoroscope_server.rpc.edit import decode_edits
from fluoroscope_server.rpc.encoding import encode_header, encode_plan, encode_site
from fluoroscope_server.rpc.gradient import decode_gradient
from fluoroscope_server.rpc.paging import page_of
from fluoroscope_server.rpc.reduction import encode_summary
from fluoroscope_server.serving import StageClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from fluoroscope_server.engine import Result
    from fluoroscope_server.metrics import Metrics
    from fluoroscope_server.rpc.context import Context
    from fluoroscope_server.serving import Answer, Limits, Repository, Servable

CHUNK_BYTES = 1 << 20
"""How many bytes of a tensor one message carries: larger messages cost page faults, smaller ones calls."""


class InspectionService:
    """Lists sites, and streams what is at them."""

    def __init__(self, repository: Repository, metrics: Metrics, limits: Limits) -> None:
        """Takes the models, where to count, and what a request may ask for."""
        self._repository = repository
        self._metrics = metrics
        self._limits = limits

    async def list_sites(self, data: bytes, context: Context) -> bytes:  # noqa: ARG002 (gRPC passes it)
        """Answers one `ListSites`."""
        request = parse(inspection.ListSitesRequest, data)
        servable = self._repository.get(request.model, decode_version(request))
        kinds = decode_kinds(request.kinds, field="kinds")
        check_names(len(request.globs), field="globs")
        sites = servable.engine.sites.matching(request.globs, kinds)
        if SiteKind.PARAMETER in kinds:
            sites = [*servable.engine.parameters.matching(request.globs, kinds), *sites]
        page, token = page_of(sites, request.page_size, request.page_token, default=1000, most=5000)
        return inspection.ListSitesResponse(
            sites=[encode_site(site) for site in page],
            next_page_token=token,
            total_size=len(sites),
            version=servable.version,
        ).SerializeToString()

    async def plan_inspection(self, data: bytes, context: Context) -> bytes:  # noqa: ARG002 (gRPC passes it)
        """Answers one `PlanInspection`."""
        request = parse(inspection.PlanInspectionRequest, data)
        question = request.inspection
        servable = self._repository.get(question.model, decode_version(question))
        if request.rows < 1:
            raise InvalidRequestError(
                f"rows is {request.rows}; say how many examples the inputs would hold, 1 at least", field="rows"
            )
        planned = await servable.plan(
            request.rows,
            decode_captures(question),
            question.outputs,
            max_bytes=question.max_bytes,
            execution=decode_execution(question.execution),
            edits=decode_edits(question.edits, servable.engine.signature),
            gradient=decode_gradient(question),
            compile=request.compile,
            limits=self._limits,
        )
        return encode_plan(servable, planned).SerializeToString()

    async def inspect_activations(self, data: bytes, context: Context) -> AsyncIterator[bytes]:  # noqa: ARG002 (gRPC passes it)
        """Answers one `InspectActivations`, frame by frame."""
        clock = StageClock()
        request = parse(inspection.InspectActivationsRequest, data)
        servable = self._repository.get(request.model, decode_version(request))
        with servable.tally.counting_failure(clock):
            answer = await self._ask(request, servable, clock, current_client())
            async for frame in self._stream(servable, answer, clock):
                yield frame
        servable.tally.answered(answer.inspection.rows, clock)
        self._metrics.observe_stages("InspectActivations", clock.times)

    async def inspect_parameters(self, data: bytes, context: Context) -> AsyncIterator[bytes]:  # noqa: ARG002 (gRPC passes it)
        """Answers one `InspectParameters`, frame by frame."""
        clock = StageClock()
        request = parse(inspection.InspectParametersRequest, data)
        servable = self._repository.get(request.model, decode_version(request))
        captures = decode_parameter_captures(request)
        answer = await servable.inspect_parameters(
            captures, max_bytes=request.max_bytes, clock=clock, client=current_client(), limits=self._limits
        )
        self._metrics.count_program(held=answer.held)
        async for frame in self._stream(servable, answer, clock):
            yield frame
        self._metrics.observe_stages("InspectParameters", clock.times)

    async def _stream(self, servable: Servable, answer: Answer, clock: StageClock) -> AsyncIterator[bytes]:
        """Yields the frames of an answer, whatever it is of: the responses of both methods are the same bytes."""
        splitter = StreamSplitter(chunk_bytes=CHUNK_BYTES)
        yield splitter.header(encode_header(servable, answer))
        first = True
        async for results in answer.results():
            if first:
                clock.lap("device_to_host")
                self._metrics.first_result_seconds.observe(clock.elapsed())
                first = False
            while results:
                for frame in self._frames(results.pop(0), splitter):
                    yield frame
        clock.lap("send")
        yield splitter.trailer(inspection.StageTime(stage=stage, seconds=seconds) for stage, seconds in clock.times)

    async def _ask(
        self, request: inspection.InspectActivationsRequest, servable: Servable, clock: StageClock, client: str
    ) -> Answer:
        captures = decode_captures(request)
        answer = await servable.inspect(
            decode_inputs(request.inputs, servable.engine.signature),
            captures,
            request.outputs,
            max_bytes=request.max_bytes,
            clock=clock,
            execution=decode_execution(request.execution),
            client=client,
            limits=self._limits,
            edits=decode_edits(request.edits, servable.engine.signature),
            gradient=decode_gradient(request),
        )
        self._metrics.count_program(held=answer.held)
        return answer

    def _frames(self, result: Result, splitter: StreamSplitter) -> Iterator[bytes]:
        """Yields the frames of a result."""
        if not isinstance(result, np.ndarray):
            yield splitter.summary(*encode_summary(result))
            return
        data = tensor_bytes(result)
        self._metrics.stream_bytes.inc(len(data))
        for frame in splitter.tensor(data):
            self._metrics.stream_chunks.inc()
            yield frame
