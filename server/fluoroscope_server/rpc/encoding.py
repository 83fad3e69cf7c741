"""From values of the domain to messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fluoroscope.v1 import inspection_pb2 as inspection
from fluoroscope.v1 import model_pb2 as model
from fluoroscope.v1.tensor_pb2 import DataType
from fluoroscope.v1.tensor_pb2 import TensorSpec as TensorSpecMessage
from fluoroscope.wire import dtype_to_wire, is_sendable
from fluoroscope_server.rpc.decoding import KINDS
from fluoroscope_server.rpc.reduction import encode_reduction
from fluoroscope_server.serving import VersionState

if TYPE_CHECKING:
    from fluoroscope_server.engine import Cost, Inspection, Program, ResultSpec, Site
    from fluoroscope_server.serving import Answer, ModelEntry, PlannedInspection, Servable, VersionStatus
    from fluoroscope_server.signature import TensorSpec

KIND_NUMBERS = {kind: number for number, kind in KINDS.items()}


STATES = {
    VersionState.LOADING: model.MODEL_STATE_LOADING,
    VersionState.READY: model.MODEL_STATE_READY,
    VersionState.FAILED: model.MODEL_STATE_FAILED,
    VersionState.UNLOADING: model.MODEL_STATE_UNLOADING,
}
"""The numbers of the states of a version on the wire."""

IDLE_STATES = {
    "MODEL_LOADING": model.MODEL_STATE_LOADING,
    "MODEL_UNLOADED": model.MODEL_STATE_UNLOADED,
    "MODEL_FAILED": model.MODEL_STATE_FAILED,
}
"""The numbers of the states of a model of which no version is loaded, by the reason."""


def encode_spec(spec: TensorSpec) -> TensorSpecMessage:
    """Returns an input or output of a signature as a message."""
    return TensorSpecMessage(name=spec.name, data_type=dtype_to_wire(spec.dtype), shape=spec.shape)


def encode_site(site: Site) -> inspection.Site:
    """Returns a site as a message."""
    return inspection.Site(
        path=site.path,
        kind=KIND_NUMBERS[site.kind],  # type: ignore[arg-type]  # its values are such numbers
        data_type=encode_type(site),
        shape=site.shape,
        bytes_per_example=site.bytes_per_example,
        not_capturable_reason=site.reason,
        flops_fraction=site.flops_fraction,
    )


def encode_type(site: Site) -> DataType.ValueType:
    """Returns the type of the elements at a site; unset if the contract has none, of which the site's reason tells."""
    return dtype_to_wire(site.dtype) if is_sendable(site.dtype) else DataType.DATA_TYPE_UNSPECIFIED


def encode_model(entry: ModelEntry, servable: Servable) -> model.Model:
    """Returns a model as a message, described by one of its versions that is loaded."""
    engine = servable.engine
    return model.Model(
        name=servable.name,
        version=servable.version,
        state=model.MODEL_STATE_READY,
        family=servable.family,
        inputs=[encode_spec(spec) for spec in engine.signature.inputs],
        outputs=[encode_spec(spec) for spec in engine.signature.outputs],
        buckets=engine.buckets,
        parameter_count=engine.parameter_count,
        parameter_bytes=engine.parameter_bytes,
        device=engine.device,
        site_count=sum(1 for site in engine.sites if not site.reason),
        load_seconds=servable.load_seconds,
        versions=map(_version, entry.statuses()),
        labels=entry.labels,
        digest=servable.digest,
        sealed=servable.sealed,
    )


def encode_idle_model(entry: ModelEntry) -> model.Model:
    """Returns a model of which no version is loaded as a message."""
    reason, why = entry.idleness
    state = IDLE_STATES[reason]
    return model.Model(
        name=entry.name,
        state=state,
        state_reason="" if state == model.MODEL_STATE_LOADING else why,
        versions=map(_version, entry.statuses()),
    )


def _version(status: VersionStatus) -> model.ModelVersion:
    return model.ModelVersion(
        version=status.version,
        state=STATES[status.state],
        state_reason=status.reason,
        labels=status.labels,
        load_seconds=status.load_seconds,
    )


def encode_header(servable: Servable, answer: Answer) -> inspection.StreamHeader:
    """Returns the first frame of a stream."""
    return inspection.StreamHeader(
        model=servable.name,
        version=servable.version,
        rows=answer.inspection.rows,
        results=[_result(spec) for spec in answer.inspection.results],
        program=encode_program(
            answer.inspection, servable.engine.cost(answer.inspection), answer.program, held=answer.held
        ),
        digest=servable.digest,
    )


def encode_plan(servable: Servable, planned: PlannedInspection) -> inspection.PlanInspectionResponse:
    """Returns what an inspection would bring and cost as a message."""
    question, program = planned.inspection, planned.program
    return inspection.PlanInspectionResponse(
        model=servable.name,
        version=servable.version,
        results=[_result(spec) for spec in question.results],
        program=encode_program(question, planned.cost, program, held=True),
        held=program is not None,
        byte_size=question.byte_size,
        peak_bytes=None if program is None else program.peak_bytes,
        refusal=planned.refusal,
    )


def encode_program(question: Inspection, cost: Cost, program: Program | None, *, held: bool) -> inspection.ProgramInfo:
    """Returns the program that answers a question as a message; None if it has never been compiled."""
    return inspection.ProgramInfo(
        compiled=not held,
        compile_seconds=0.0 if program is None else program.compile_seconds,
        bucket=question.plan.bucket,
        stage_count=cost.stage_count,
        flops=cost.flops,
        flops_fraction=cost.fraction,
    )


def _result(spec: ResultSpec) -> inspection.ResultHeader:
    header = inspection.ResultHeader(
        shape=spec.shape,
        byte_size=spec.byte_size,
        value_shape=spec.value_shape,
        value_data_type=dtype_to_wire(spec.value_dtype),
        edits=spec.edits,
        is_gradient=spec.is_gradient,
    )
    encode_reduction(spec.reduction, header.reduction)
    if spec.part is not None:
        header.part = spec.part
        header.data_type = dtype_to_wire(spec.dtype)
    if spec.site is None:
        header.output = spec.name
    else:
        header.site = spec.name
        header.kind = KIND_NUMBERS[spec.site.kind]  # type: ignore[assignment]  # its values are such numbers
    return header
