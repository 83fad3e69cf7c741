"""Calls as bytes: what a client that is not ours, or that means harm, can send."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status  # type: ignore[import-untyped]  # ships no types

from fluoroscope.v1 import inference_pb2, inspection_pb2, tensor_pb2
from fluoroscope.wire import encode_tensor

from .saved import batch

if TYPE_CHECKING:
    from google.protobuf.message import Message

PREDICT = "/fluoroscope.v1.InferenceService/Predict"
LIST_SITES = "/fluoroscope.v1.InspectionService/ListSites"
INSPECT = "/fluoroscope.v1.InspectionService/InspectActivations"
LIST_MODELS = "/fluoroscope.v1.ModelService/ListModels"
GET_MODEL = "/fluoroscope.v1.ModelService/GetModel"
METHODS = (PREDICT, LIST_SITES, INSPECT, LIST_MODELS, GET_MODEL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """How a call ended that was refused."""

    code: str
    message: str
    reason: str | None
    field: str | None


def call(target: str, method: str, request: Message | bytes, *, timeout: float = 30.0) -> Refusal | list[bytes]:
    """Returns the messages that came back, or how the call was refused."""
    data = request if isinstance(request, bytes) else request.SerializeToString()
    options = (("grpc.enable_http_proxy", 0), ("grpc.max_send_message_length", -1))
    with grpc.insecure_channel(target, options=options) as channel:
        stream: Any = channel.unary_stream(method)
        try:
            return list(stream(data, timeout=timeout))
        except grpc.RpcError as error:
            return refusal(error)


def refusal(error: Any) -> Refusal:
    reason = field = None
    try:
        status = rpc_status.from_call(error)
    except ValueError:  # gRPC itself replaced the status, and the details are those of another one
        status = None
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in [] if status is None else status.details:
        if detail.Unpack(info):
            assert info.domain == "fluoroscope"
            reason = info.reason
        elif detail.Unpack(bad):
            (violation,) = bad.field_violations
            assert violation.description in {"", error.details()}
            field = violation.field
    return Refusal(code=error.code().name, message=error.details(), reason=reason, field=field)


def tensor(data_type: int = tensor_pb2.DATA_TYPE_FLOAT32, shape: tuple[int, ...] = (1, 6), data: bytes = b"") -> bytes:
    """Returns a serialized tensor of which nothing need be right."""
    message = tensor_pb2.Tensor(shape=shape, data=data)
    message.data_type = data_type  # type: ignore[assignment]  # proto3 lets unknown numbers through
    return message.SerializeToString()


def predict(
    model: str = "relu", *, inputs: dict[str, bytes] | None = None, outputs: tuple[str, ...] = (), version: int = -1
) -> inference_pb2.PredictRequest:
    request = inference_pb2.PredictRequest(model=model, outputs=outputs)
    if version != -1:
        request.version = version
    _fill(request, inputs)
    return request


def inspect(
    *captures: inspection_pb2.Capture,
    model: str = "relu",
    inputs: dict[str, bytes] | None = None,
    outputs: tuple[str, ...] = (),
    max_bytes: int = 0,
) -> inspection_pb2.InspectActivationsRequest:
    request = inspection_pb2.InspectActivationsRequest(
        model=model, captures=captures, outputs=outputs, max_bytes=max_bytes
    )
    _fill(request, inputs)
    return request


def capture(*sites: str, kinds: tuple[int, ...] = (), slices: tuple[Any, ...] = ()) -> inspection_pb2.Capture:
    message = inspection_pb2.Capture(sites=sites, slices=[inspection_pb2.Slice(**each) for each in slices])
    message.kinds.extend(kinds)  # type: ignore[arg-type]  # proto3 lets unknown numbers through
    return message


def good() -> bytes:
    return encode_tensor(batch(1)).SerializeToString()


def _fill(request: Any, inputs: dict[str, bytes] | None) -> None:
    for name, data in ({"x": good()} if inputs is None else inputs).items():
        request.inputs[name].MergeFromString(data)
