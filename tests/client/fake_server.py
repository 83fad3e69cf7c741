"""A server that speaks the contract and has a network of three lines, for clients to talk to."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import status_pb2
from grpc_status import rpc_status  # type: ignore[import-untyped]  # ships no types

from fluoroscope.v1 import (
    inference_pb2,
    inference_pb2_grpc,
    inspection_pb2,
    model_pb2,
    model_pb2_grpc,
    tensor_pb2,
)
from fluoroscope.wire import StreamSplitter, decode_tensor, dtype_to_wire, encode_tensor, tensor_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from google.protobuf.message import Message

FLOAT32 = tensor_pb2.DATA_TYPE_FLOAT32
BFLOAT16 = tensor_pb2.DATA_TYPE_BFLOAT16

SITES = [
    inspection_pb2.Site(
        path="Dense_0", kind=inspection_pb2.SITE_KIND_MODULE, data_type=FLOAT32, shape=[-1, 4], bytes_per_example=16
    ),
    inspection_pb2.Site(
        path="Dense_0/relu:0",
        kind=inspection_pb2.SITE_KIND_EQUATION,
        data_type=BFLOAT16,
        shape=[-1, 4],
        bytes_per_example=8,
        flops_fraction=0.5,
    ),
    inspection_pb2.Site(
        path="loop/x",
        kind=inspection_pb2.SITE_KIND_NAMED,
        not_capturable_reason="it is int1",  # a type that the contract lacks
    ),
    inspection_pb2.Site(
        path="head", kind=inspection_pb2.SITE_KIND_MODULE, data_type=FLOAT32, shape=[-1, 2], bytes_per_example=8
    ),
]

DIGITS = model_pb2.Model(
    name="digits",
    version=100,
    state=model_pb2.MODEL_STATE_READY,
    family="base_network",
    inputs=[tensor_pb2.TensorSpec(name="image", data_type=FLOAT32, shape=[-1, 2, 2, 1])],
    outputs=[tensor_pb2.TensorSpec(name="logits", data_type=FLOAT32, shape=[-1, 2])],
    buckets=[1, 8],
    parameter_count=1234,
    parameter_bytes=4936,
    device="cpu",
    site_count=3,
    load_seconds=0.5,
    versions=[
        model_pb2.ModelVersion(version=100, state=model_pb2.MODEL_STATE_READY, labels=["stable"], load_seconds=0.5),
        model_pb2.ModelVersion(version=200, state=model_pb2.MODEL_STATE_FAILED, state_reason="a flipped bit"),
    ],
    labels={"stable": 100},
    digest="5eed" * 16,
    sealed=True,
)
PAIR = model_pb2.Model(
    name="pair",
    state=model_pb2.MODEL_STATE_FAILED,
    state_reason="no checkpoint",
    inputs=[
        tensor_pb2.TensorSpec(name="tokens", data_type=tensor_pb2.DATA_TYPE_INT32, shape=[-1, 3]),
        tensor_pb2.TensorSpec(name="mask", data_type=tensor_pb2.DATA_TYPE_BOOL, shape=[-1, 3]),
    ],
)


PROGRAM = inspection_pb2.ProgramInfo(
    compiled=True, compile_seconds=0.25, bucket=8, stage_count=3, flops=1500.0, flops_fraction=0.75
)


def values(image: np.ndarray) -> dict[str, np.ndarray]:
    """All values inside the network, in execution order."""
    flat = image.reshape(len(image), -1)
    relu = np.maximum(flat, 0).astype("bfloat16")
    return {"Dense_0": flat - 1, "Dense_0/relu:0": relu, "head": flat[:, :2] * 2}


def statistics_of(value: np.ndarray) -> inspection_pb2.Statistics:
    """The numbers that the server would send for a value of finite elements."""
    numbers = value.astype(np.float64)
    return inspection_pb2.Statistics(
        count=numbers.size,
        mean=numbers.mean(),
        std=numbers.std(),
        min=numbers.min(),
        max=numbers.max(),
        abs_max=np.abs(numbers).max(),
        l2_norm=float(np.sqrt((numbers**2).sum())),
        zero_count=int((numbers == 0).sum()),
    )


class FakeServer(
    inference_pb2_grpc.InferenceServiceServicer,
    model_pb2_grpc.ModelServiceServicer,
):
    """The server; a test reads what came, and says what shall go wrong."""

    def __init__(self) -> None:
        self.models = [DIGITS, PAIR]
        """The models that it lists."""
        self.sites = SITES
        """The sites that it lists."""
        self.outputs: dict[str, tensor_pb2.Tensor] | None = None
        """What it answers to predictions. None means what the network computes."""
        self.requests: list[Any] = []
        """The requests that came, in order."""
        self.metadata: dict[str, str | bytes] = {}
        """What came with the last of them."""
        self.failure: Callable[[grpc.ServicerContext], None] | None = None
        """Called at the start of each call; may end it."""
        self.break_stream: Callable[[list[bytes]], list[bytes]] = lambda messages: messages
        """Changes the messages of a stream before they are sent."""
        self.hold: threading.Event | None = None
        """If set, a stream waits for it before its trailer."""
        self.holding = threading.Event()
        """Set when a stream waits."""
        self.fail_late = False
        """Whether a stream fails only before its trailer."""
        self.cancelled = threading.Event()
        """Set when a client gave up a stream before its end."""
        self.page_size = 100
        """How many sites or models a page has."""
        self.target = ""
        """The address to call."""

    def fail(self, code: grpc.StatusCode, message: str, *details: Message) -> None:
        """Lets every call fail with this status from now on."""
        status = status_pb2.Status(code=code.value[0], message=message)
        for detail in details:
            packed = AnyMessage()
            packed.Pack(detail)
            status.details.append(packed)
        self.failure = lambda context: context.abort_with_status(rpc_status.to_status(status))

    def _begin(self, request: Message, context: grpc.ServicerContext) -> None:
        self.requests.append(request)
        self.metadata = dict(context.invocation_metadata())
        if self.failure is not None and not self.fail_late:
            self.failure(context)

    def Predict(  # noqa: N802  # the contract's name
        self, request: inference_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> inference_pb2.PredictResponse:
        self._begin(request, context)
        head = values(decode_tensor(request.inputs["image"]))["head"]
        outputs = {"logits": encode_tensor(head)} if self.outputs is None else self.outputs
        return inference_pb2.PredictResponse(model="digits", version=100, outputs=outputs)

    def ListModels(  # noqa: N802  # the contract's name
        self, request: model_pb2.ListModelsRequest, context: grpc.ServicerContext
    ) -> model_pb2.ListModelsResponse:
        self._begin(request, context)
        start = int(request.page_token or 0)
        end = start + self.page_size
        return model_pb2.ListModelsResponse(
            models=self.models[start:end], next_page_token=str(end) if end < len(self.models) else ""
        )

    def GetModel(  # noqa: N802  # the contract's name
        self, request: model_pb2.GetModelRequest, context: grpc.ServicerContext
    ) -> model_pb2.GetModelResponse:
        self._begin(request, context)
        return model_pb2.GetModelResponse(model=PAIR if request.model == "pair" else DIGITS)

    def LoadModel(  # noqa: N802  # the contract's name
        self, request: model_pb2.LoadModelRequest, context: grpc.ServicerContext
    ) -> model_pb2.LoadModelResponse:
        self._begin(request, context)
        return model_pb2.LoadModelResponse(model=DIGITS)

    def UnloadModel(  # noqa: N802  # the contract's name
        self, request: model_pb2.UnloadModelRequest, context: grpc.ServicerContext
    ) -> model_pb2.UnloadModelResponse:
        self._begin(request, context)
        return model_pb2.UnloadModelResponse(model=DIGITS)

    def SetLabel(  # noqa: N802  # the contract's name
        self, request: model_pb2.SetLabelRequest, context: grpc.ServicerContext
    ) -> model_pb2.SetLabelResponse:
        self._begin(request, context)
        return model_pb2.SetLabelResponse(model=DIGITS)

    def ListSites(  # noqa: N802  # the contract's name
        self, request: inspection_pb2.ListSitesRequest, context: grpc.ServicerContext
    ) -> inspection_pb2.ListSitesResponse:
        self._begin(request, context)
        start = int(request.page_token or 0)
        end = start + self.page_size
        kinds = set(request.kinds) or set(inspection_pb2.SiteKind.values())
        found = [site for site in self.sites if site.kind in kinds]
        return inspection_pb2.ListSitesResponse(
            sites=found[start:end],
            next_page_token=str(end) if end < len(found) else "",
            total_size=len(found),
            version=100,
        )

    def PlanInspection(  # noqa: N802  # the contract's name
        self, request: inspection_pb2.PlanInspectionRequest, context: grpc.ServicerContext
    ) -> inspection_pb2.PlanInspectionResponse:
        self._begin(request, context)
        return inspection_pb2.PlanInspectionResponse(
            model=request.inspection.model,
            version=100,
            results=[
                inspection_pb2.ResultHeader(
                    site="Dense_0", kind=inspection_pb2.SITE_KIND_MODULE, data_type=FLOAT32, shape=[2, 4], byte_size=32
                ),
                inspection_pb2.ResultHeader(output="logits", data_type=FLOAT32, shape=[2, 2], byte_size=16),
            ],
            program=PROGRAM,
            held=request.compile,
            byte_size=48,
            peak_bytes=4096 if request.compile else None,
            refusal="too large" if request.inspection.max_bytes else "",
        )

    def InspectActivations(  # noqa: N802  # the contract's name
        self, request: inspection_pb2.InspectActivationsRequest, context: grpc.ServicerContext
    ) -> Iterator[bytes]:
        """Streams every value that can be captured, whatever the globs, as bytes."""
        self._begin(request, context)
        context.add_callback(self.cancelled.set)
        found = values(decode_tensor(request.inputs["image"]))
        *messages, trailer = self.break_stream(_messages(request, found))
        yield from messages
        if self.hold is not None:
            self.holding.set()
            self.hold.wait(20)
        if self.failure is not None:
            self.failure(context)
        yield trailer
        self.cancelled.clear()


def _messages(request: inspection_pb2.InspectActivationsRequest, found: dict[str, np.ndarray]) -> list[bytes]:
    """The whole stream that answers a request, in chunks of eight bytes."""
    capture = request.captures[0]
    reductions = list(capture.reductions) or [inspection_pb2.Reduction(full=inspection_pb2.Reduction.Full())]
    kinds = {site.path: site.kind for site in SITES}
    wanted = [(each, found[each.path], reduction) for each in SITES if each.path in found for reduction in reductions]
    header = inspection_pb2.StreamHeader(
        model="digits",
        version=100,
        rows=len(found["head"]),
        program=PROGRAM,
        digest="5eed" * 16,
    )
    splitter = StreamSplitter(chunk_bytes=8)
    body: list[bytes] = []
    for site, value, reduction in wanted:
        described = reduction.WhichOneof("reduction") == "statistics"
        header.results.add(
            site=site.path,
            kind=kinds[site.path],
            reduction=reduction,
            shape=value.shape,
            data_type=tensor_pb2.DATA_TYPE_UNSPECIFIED if described else dtype_to_wire(value.dtype),
            byte_size=0 if described else value.nbytes,
            value_shape=value.shape,
            value_data_type=dtype_to_wire(value.dtype),
        )
        body += (
            [splitter.summary("statistics", statistics_of(value))]
            if described
            else splitter.tensor(tensor_bytes(value))
        )
    for name in request.outputs:
        head = found["head"]
        header.results.add(
            output=name,
            reduction=inspection_pb2.Reduction(full=inspection_pb2.Reduction.Full()),
            data_type=FLOAT32,
            shape=head.shape,
            byte_size=head.nbytes,
            value_shape=head.shape,
            value_data_type=FLOAT32,
        )
        body += splitter.tensor(tensor_bytes(head))
    stage = inspection_pb2.StageTime(stage="compute", seconds=0.125)
    return [splitter.header(header), *body, splitter.trailer([stage])]


def start(fake: FakeServer, handlers: Sequence[grpc.GenericRpcHandler] = ()) -> grpc.Server:
    server = grpc.server(ThreadPoolExecutor(max_workers=8), options=[("grpc.so_reuseport", 0)])
    raw: grpc.RpcMethodHandler[inspection_pb2.InspectActivationsRequest, bytes] = grpc.unary_stream_rpc_method_handler(
        fake.InspectActivations,
        request_deserializer=inspection_pb2.InspectActivationsRequest.FromString,
        response_serializer=None,
    )
    listed = grpc.unary_unary_rpc_method_handler(
        fake.ListSites,
        request_deserializer=inspection_pb2.ListSitesRequest.FromString,
        response_serializer=inspection_pb2.ListSitesResponse.SerializeToString,
    )
    planned = grpc.unary_unary_rpc_method_handler(
        fake.PlanInspection,
        request_deserializer=inspection_pb2.PlanInspectionRequest.FromString,
        response_serializer=inspection_pb2.PlanInspectionResponse.SerializeToString,
    )
    inspection = grpc.method_handlers_generic_handler(
        "fluoroscope.v1.InspectionService",
        {"InspectActivations": raw, "ListSites": listed, "PlanInspection": planned},
    )
    server.add_generic_rpc_handlers([inspection, *handlers])
    inference_pb2_grpc.add_InferenceServiceServicer_to_server(fake, server)
    model_pb2_grpc.add_ModelServiceServicer_to_server(fake, server)
    fake.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    return server
