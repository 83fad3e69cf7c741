"""CompareActivations: how far two versions, or two inputs, are apart inside."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fluoroscope.v1 import inspection_pb2 as inspection
from fluoroscope.v1.tensor_pb2 import DATA_TYPE_UNSPECIFIED
from fluoroscope_server.engine import Tolerance, check_names
from fluoroscope_server.errors import InvalidRequestError
from fluoroscope_server.rpc.context import current_client
from fluoroscope_server.rpc.decoding import decode_inputs, decode_kinds, decode_version, parse
from fluoroscope_server.rpc.encoding import KIND_NUMBERS, encode_program, encode_type
from fluoroscope_server.serving import ComparedSide, StageClock, blaming, compare

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    import numpy as np

    from fluoroscope_server.engine import ComparedSite, SiteDifference
    from fluoroscope_server.metrics import Metrics
    from fluoroscope_server.rpc.context import Context
    from fluoroscope_server.serving import ComparisonAnswer, Limits, Repository

_Side = inspection.CompareActivationsRequest.Side


class ComparisonMethod:
    """The one method of InspectionService that looks into two networks at once."""

    def __init__(self, repository: Repository, metrics: Metrics, limits: Limits) -> None:
        """Takes the models, where to count, and what a request may ask for."""
        self._repository = repository
        self._metrics = metrics
        self._limits = limits

    async def compare_activations(self, data: bytes, context: Context) -> AsyncIterator[bytes]:  # noqa: ARG002 (gRPC passes it)
        """Answers one `CompareActivations`, frame by frame."""
        clock = StageClock()
        request = parse(inspection.CompareActivationsRequest, data)
        check_names(len(request.sites), field="sites")
        left = self._side(request.model, request.left, "left")
        right = self._side(request.model, request.right, "right", inputs=left.inputs)
        tolerance = _tolerance(request)
        answer = await compare(
            left,
            right,
            sites=request.sites,
            kinds=decode_kinds(request.kinds, field="kinds"),
            tolerance=tolerance,
            clock=clock,
            client=current_client(),
            limits=self._limits,
        )
        self._metrics.count_program(held=all(answer.held))
        header = encode_comparison(request.model, answer, tolerance)
        yield inspection.CompareActivationsResponse(header=header).SerializeToString()
        places = [place for place, site in enumerate(answer.comparison.sites) if not site.reason]
        done, first = 0, None
        async for found in answer.differences():
            if not done:
                self._metrics.first_result_seconds.observe(clock.elapsed())
            for difference in found:
                place = places[done]
                done += 1
                first = place if first is None and difference.divergent_count else first
                message = encode_difference(place, difference)
                yield inspection.CompareActivationsResponse(comparison=message).SerializeToString()
        clock.lap("send")
        trailer = inspection.ComparisonTrailer(
            first_divergence=first,
            comparison_count=done,
            stages=[inspection.StageTime(stage=stage, seconds=seconds) for stage, seconds in clock.times],
        )
        yield inspection.CompareActivationsResponse(trailer=trailer).SerializeToString()
        self._metrics.observe_stages("CompareActivations", clock.times)

    def _side(
        self, model: str, side: _Side, name: str, *, inputs: Mapping[str, np.ndarray] | None = None
    ) -> ComparedSide:
        """Returns what one side asks for; `inputs` are taken where it has none of its own."""
        with blaming(name):
            servable = self._repository.get(model, decode_version(side))
            given = decode_inputs(side.inputs, servable.engine.signature) if side.inputs or inputs is None else inputs
        return ComparedSide(servable=servable, inputs=given)


def encode_comparison(model: str, answer: ComparisonAnswer, tolerance: Tolerance) -> inspection.ComparisonHeader:
    """Returns the first frame of a comparison."""
    programs = [
        encode_program(question, side.servable.engine.cost(question), program, held=held)
        for side, question, program, held in zip(
            answer.sides, answer.comparison.inspections, answer.programs, answer.held, strict=True
        )
    ]
    return inspection.ComparisonHeader(
        model=model,
        left_version=answer.sides[0].servable.version,
        right_version=answer.sides[1].servable.version,
        rows=answer.comparison.inspections[0].rows,
        sites=[_site(site) for site in answer.comparison.sites],
        left_program=programs[0],
        right_program=programs[1],
        rtol=tolerance.rtol,
        atol=tolerance.atol,
        left_digest=answer.sides[0].servable.digest,
        right_digest=answer.sides[1].servable.digest,
    )


def encode_difference(place: int, difference: SiteDifference) -> inspection.SiteComparison:
    """Returns how far the values of one site are apart as a message."""
    return inspection.SiteComparison(
        site=place,
        count=difference.count,
        max_abs_difference=difference.max_abs,
        max_relative_difference=difference.max_relative,
        mean_abs_difference=difference.mean_abs,
        rms_difference=difference.rms,
        cosine_similarity=difference.cosine,
        identical_count=difference.identical_count,
        divergent_count=difference.divergent_count,
        nan_mismatch_count=difference.nan_mismatch_count,
        inf_mismatch_count=difference.inf_mismatch_count,
    )


def _site(compared: ComparedSite) -> inspection.ComparedSite:
    left, right = compared.left, compared.right
    return inspection.ComparedSite(
        path=left.path,
        kind=KIND_NUMBERS[left.kind],  # type: ignore[arg-type]  # its values are such numbers
        left_data_type=DATA_TYPE_UNSPECIFIED if compared.only == "right" else encode_type(left),
        right_data_type=DATA_TYPE_UNSPECIFIED if compared.only == "left" else encode_type(right),
        shape=left.shape,
        not_comparable_reason=compared.reason,
    )


def _tolerance(request: inspection.CompareActivationsRequest) -> Tolerance:
    default = Tolerance()
    tolerance = Tolerance(
        rtol=request.rtol if request.HasField("rtol") else default.rtol,
        atol=request.atol if request.HasField("atol") else default.atol,
    )
    for name, value in (("rtol", tolerance.rtol), ("atol", tolerance.atol)):
        if not 0 <= value < math.inf:
            raise InvalidRequestError(f"{name} is {value}; expected a number that is not negative", field=name)
    return tolerance
