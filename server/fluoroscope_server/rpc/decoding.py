"""From messages to values of the domain."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from google.protobuf.message import DecodeError, Message

from fluoroscope.v1 import inspection_pb2 as inspection
from fluoroscope.wire import MOST_AXES, WireError, decode_tensor
from fluoroscope_server.engine import (
    Capture,
    Cast,
    Execution,
    Full,
    SiteKind,
    Slice,
    check_captures,
    check_names,
    check_results,
)
from fluoroscope_server.errors import InvalidRequestError, quoted
from fluoroscope_server.rpc.reduction import decode_cast, decode_reduction
from fluoroscope_server.serving import check_input_names

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import numpy as np

    from fluoroscope.v1.tensor_pb2 import Tensor
    from fluoroscope_server.engine import Reduction
    from fluoroscope_server.serving import Selector
    from fluoroscope_server.signature import Signature

EXECUTIONS: dict[int, Execution] = {
    inspection.EXECUTION_UNSPECIFIED: Execution.AUTO,
    inspection.EXECUTION_AUTO: Execution.AUTO,
    inspection.EXECUTION_FUSED: Execution.FUSED,
    inspection.EXECUTION_STAGED: Execution.STAGED,
}
"""The ways to run an inspection, by their number on the wire."""

M = TypeVar("M", bound=Message)

KINDS: dict[int, SiteKind] = {
    inspection.SITE_KIND_MODULE: SiteKind.MODULE,
    inspection.SITE_KIND_NAMED: SiteKind.NAMED,
    inspection.SITE_KIND_EQUATION: SiteKind.EQUATION,
    inspection.SITE_KIND_PARAMETER: SiteKind.PARAMETER,
    inspection.SITE_KIND_INPUT: SiteKind.INPUT,
}
"""The kinds of site, by their number on the wire."""

MOST_REDUCTIONS = 100
"""How many reductions one capture may have: all in one program, which has to be compiled."""

MOST_PROBABILITIES = 100_000
"""How many quantiles the captures of one request may name together."""

MOST_KINDS = 100
"""How many kinds one filter may name, each as often as it comes."""


def parse(message: type[M], data: bytes) -> M:
    """Returns a message; raises InvalidRequestError if the bytes are none."""
    try:
        return message.FromString(data)
    except DecodeError as error:
        raise InvalidRequestError(f"the request is no {message.DESCRIPTOR.full_name}: {error}") from error


def check_count(count: int, most: int, noun: str, *, field: str) -> None:
    """Raises InvalidRequestError if a field has more entries than it may. Ask before any of them is looked at."""
    if count > most:
        raise InvalidRequestError(f"there are {count:,} {noun}; expected at most {most:,}", field=field)


def decode_inputs(tensors: Mapping[str, Tensor], signature: Signature, *, within: str = "") -> dict[str, np.ndarray]:
    """Returns the inputs as arrays, those of the field `within`.

    Raises:
        InvalidRequestError: a tensor is broken, or there are more than the signature has: then nothing was decoded.
    """
    place = f"{within}.inputs" if within else "inputs"
    if len(tensors) > len(signature.inputs):
        check_input_names(tensors, signature, field=place)
    arrays = {}
    for name in tensors:  # protobuf's map is quicker with keys than with items
        try:
            arrays[name] = decode_tensor(tensors[name])
        except WireError as error:
            raise InvalidRequestError(
                f"input {quoted(name)}: {error}", field=f"{place}[{name}]", reason="BROKEN_TENSOR"
            ) from error
    return arrays


def decode_version(request: Message) -> Selector:
    """Returns the version that a request names, by number or by label; None if it names none."""
    named = request.WhichOneof("version_selector")
    return getattr(request, named) if named else None


def decode_kinds(kinds: Collection[int], *, field: str) -> tuple[SiteKind, ...]:
    """Returns kinds of site; SITE_KIND_UNSPECIFIED is every kind, and so no filter."""
    check_count(len(kinds), MOST_KINDS, "kinds", field=field)
    numbers = set(kinds)
    for number in numbers - KINDS.keys() - {inspection.SITE_KIND_UNSPECIFIED}:
        known = ", ".join(inspection.SiteKind.Name(each) for each in KINDS)  # type: ignore[arg-type]  # its keys are such
        raise InvalidRequestError(f"{number} is no kind of site; the kinds are {known}", field=field)
    if inspection.SITE_KIND_UNSPECIFIED in numbers:
        return ()
    return tuple(kind for number, kind in KINDS.items() if number in numbers)


def decode_execution(number: int) -> Execution:
    """Returns how to run an inspection; raises InvalidRequestError if the number says nothing."""
    execution = EXECUTIONS.get(number)
    if execution is None:
        known = ", ".join(inspection.Execution.Name(each) for each in EXECUTIONS)  # type: ignore[arg-type]  # its keys are such
        raise InvalidRequestError(f"{number} is no execution; the executions are {known}", field="execution")
    return execution


def decode_captures(request: inspection.InspectActivationsRequest) -> list[Capture]:
    """Returns the captures of an inspection; raises InvalidRequestError if nothing is asked for, or one is wrong."""
    if not (request.captures or request.gradient.inputs or request.gradient.parameters):
        raise InvalidRequestError("captures is empty; to run the network alone, call Predict", field="captures")
    return _captures(request.captures, parameters=False)


def decode_parameter_captures(request: inspection.InspectParametersRequest) -> list[Capture]:
    """Returns what to read of the parameters; raises InvalidRequestError if one of the captures is wrong."""
    return _captures(request.captures, parameters=True)


def _captures(captures: Sequence[inspection.Capture], *, parameters: bool) -> list[Capture]:
    check_captures(len(captures))
    check_names(sum(len(each.sites) for each in captures), field="captures")
    check_results(sum(len(each.reductions) for each in captures), field="captures")
    probabilities = sum(len(one.quantiles.probabilities) for each in captures for one in each.reductions)
    check_count(probabilities, MOST_PROBABILITIES, "probabilities", field="captures")
    return [
        decode_capture(each, field=f"captures[{index}]", parameters=parameters) for index, each in enumerate(captures)
    ]


def decode_capture(capture: inspection.Capture, *, field: str, parameters: bool = False) -> Capture:
    """Returns a capture; raises InvalidRequestError if a kind, a reduction or a data type cannot be right.

    Args:
        capture: the message.
        field: the request field to blame.
        parameters: whether parameters are asked for, which are of a kind that no activation is of.
    """
    kinds = decode_kinds(capture.kinds, field=f"{field}.kinds")
    for kind in kinds:
        if (kind is SiteKind.PARAMETER) is not parameters:
            other = "InspectActivations captures the other kinds" if parameters else "InspectParameters reads those"
            raise InvalidRequestError(
                f"kinds asks for {kind.name}, which is not what this method looks at; {other}", field=f"{field}.kinds"
            )
    return Capture(
        sites=tuple(capture.sites),
        kinds=kinds,
        slices=decode_slices(capture.slices, field=f"{field}.slices"),
        reductions=_reductions(capture, field=field),
    )


def _reductions(capture: inspection.Capture, *, field: str) -> tuple[Reduction, ...]:
    """Returns the reductions of a capture, cast where a data type is set and they give tensors."""
    check_count(len(capture.reductions), MOST_REDUCTIONS, "reductions", field=f"{field}.reductions")
    reductions: tuple[Reduction, ...] = tuple(
        decode_reduction(each, field=f"{field}.reductions[{index}]") for index, each in enumerate(capture.reductions)
    ) or (Full(),)
    if not capture.HasField("data_type"):
        return reductions
    dtype = decode_cast(capture.data_type, field=f"{field}.data_type")
    if all(each.is_summary for each in reductions):
        raise InvalidRequestError(
            f"data_type asks for {dtype}, and no reduction of this capture gives a tensor: leave it unset",
            field=f"{field}.data_type",
        )
    return tuple(each if each.is_summary else Cast(reduction=each, dtype=dtype) for each in reductions)


def decode_slices(slices: Collection[inspection.Slice], *, field: str) -> tuple[Slice, ...]:
    """Returns parts of axes; raises InvalidRequestError if there are more than a value can have axes."""
    check_count(len(slices), MOST_AXES, "slices", field=field)
    return tuple(map(_slice, slices))


def _slice(message: inspection.Slice) -> Slice:
    return Slice(
        axis=message.axis,
        start=message.start if message.HasField("start") else None,
        stop=message.stop if message.HasField("stop") else None,
        step=message.step if message.HasField("step") else 1,
    )
