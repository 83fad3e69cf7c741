from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import ml_dtypes
import numpy as np
import pytest
from google.rpc.error_details_pb2 import ErrorInfo

import fluoroscope
from fluoroscope.v1 import inspection_pb2, model_pb2, tensor_pb2
from fluoroscope.wire import chunk_frame, decode_tensor, encode_tensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.client.conftest import Face
    from tests.client.fake_server import FakeServer

PROGRAM = fluoroscope.Program(
    compiled=True, compile_seconds=0.25, bucket=8, stages=3, flops=1500.0, flops_fraction=0.75
)
X = np.array([[1, -2, 3, 0], [0.5, 4, -1, 2]], np.float32).reshape(2, 2, 2, 1)
FLAT = X.reshape(2, 4)


def test_predict(face: Face, server: FakeServer) -> None:
    answer = face.call("predict", "digits", {"image": X}, outputs=["logits"], version=100)

    assert list(answer) == ["logits"]
    assert np.array_equal(answer["logits"], FLAT[:, :2] * 2)
    assert answer["logits"].flags.writeable
    request = server.requests[0]
    assert (request.model, request.version, list(request.outputs)) == ("digits", 100, ["logits"])


@pytest.mark.parametrize(("asked", "order"), [((), "a b c d"), ("c", "c a b d"), (["d", "b", "c", "a"], "d b c a")])
def test_outputs_come_in_order(face: Face, server: FakeServer, asked: Any, order: str) -> None:
    """A map of protobuf has none, and another one in each process."""
    server.outputs = {name: encode_tensor(FLAT) for name in "bdac"}
    assert list(face.call("predict", "digits", {"image": X}, outputs=asked)) == order.split()


def test_version_zero_is_a_version(face: Face, server: FakeServer) -> None:
    face.call("predict", "digits", {"image": X})
    face.call("predict", "digits", {"image": X}, version=0)

    assert [request.HasField("version") for request in server.requests] == [False, True]


def test_a_label_is_sent_in_place_of_a_version(face: Face, server: FakeServer) -> None:
    face.call("predict", "digits", {"image": [[[[1], [2]], [[3], [4]]]]}, label="stable")
    face.call("sites", "digits", label="stable")
    face.call("inspect", "digits", {"image": X}, sites="**", label="stable")
    face.call("plan", "digits", 1, sites="**", label="stable")

    *asked, planned = server.requests
    assert {request.label for request in (*asked, planned.inspection)} == {"stable"}
    with pytest.raises(fluoroscope.InvalidRequestError, match="version is 1 and label is 'stable'"):
        face.call("predict", "digits", {"image": X}, version=1, label="stable")
    with pytest.raises(fluoroscope.InvalidRequestError, match="label is 3; expected the name of a label"):
        face.call("predict", "digits", {"image": X}, label=3)


def test_what_serves_is_changed(face: Face, server: FakeServer) -> None:
    loaded = face.call("load_model", "digits", version=300)
    face.call("unload_model", "digits", force=True)
    face.call("set_label", "digits", "canary", 0)
    face.call("set_label", "digits", "canary", None)

    load, unload, label, cleared = server.requests
    assert (load.model, load.version) == ("digits", 300)
    assert (unload.HasField("version"), unload.force) == (False, True)
    assert (label.label, label.HasField("version"), label.version) == ("canary", True, 0)
    assert not cleared.HasField("version")
    assert loaded.labels == {"stable": 100}
    assert [(each.version, each.state, each.state_reason, each.labels) for each in loaded.versions] == [
        (100, fluoroscope.ModelState.READY, "", ("stable",)),
        (200, fluoroscope.ModelState.FAILED, "a flipped bit", ()),
    ]


def test_lists_take_the_dtype_of_the_input(face: Face, server: FakeServer) -> None:
    face.call("predict", "digits", {"image": [[[[1], [2]], [[3], [4]]]]})

    assert decode_tensor(server.requests[1].inputs["image"]).dtype == np.float32


def test_arrays_are_sent_as_they_are(face: Face, server: FakeServer) -> None:
    face.call("predict", "digits", {"image": X.astype(np.float64)})

    assert [type(request).__name__ for request in server.requests] == ["PredictRequest"]
    assert decode_tensor(server.requests[0].inputs["image"]).dtype == np.float64


def test_the_token_goes_with_each_call(connect: Callable[..., Face], server: FakeServer) -> None:
    connect(server.target, token="secret").call("predict", "digits", {"image": X})

    assert server.metadata["authorization"] == "Bearer secret"


def test_models_and_sites_are_paged_to_the_end(face: Face, server: FakeServer) -> None:
    server.page_size = 1

    assert [model.name for model in face.call("models")] == ["digits", "pair"]
    assert [site.path for site in face.call("sites", "digits", "**")] == ["Dense_0", "Dense_0/relu:0", "loop/x", "head"]
    assert len(server.requests) == 6
    assert {tuple(request.globs) for request in server.requests[2:]} == {("**",)}


def test_a_site(face: Face, server: FakeServer) -> None:
    equation, named = face.call("sites", "digits", kinds=["named", fluoroscope.SiteKind.EQUATION])

    assert list(server.requests[0].kinds) == [2, 3]
    assert (equation.path, named.path) == ("Dense_0/relu:0", "loop/x")
    assert equation.kind is fluoroscope.SiteKind.EQUATION
    assert (equation.dtype, equation.shape, equation.bytes_per_example) == (np.dtype(ml_dtypes.bfloat16), (-1, 4), 8)
    assert equation.capturable
    assert (named.capturable, named.not_capturable_reason, named.dtype) == (False, "it is int1", None)


def test_types_that_this_client_does_not_know_spoil_no_list(face: Face, server: FakeServer) -> None:
    future: Any = 99
    spec = tensor_pb2.TensorSpec(name="x", data_type=future, shape=[-1, 3])
    server.models = [model_pb2.Model(name="new", inputs=[spec]), *server.models]
    server.sites = [inspection_pb2.Site(path="new", data_type=future, shape=[-1]), *server.sites]

    new, *models = face.call("models")
    assert (str(new.inputs[0]), new.inputs[0].dtype, len(models)) == ("x: unknown[batch, 3]", None, 2)
    site, *sites = face.call("sites", "digits")
    assert (site.dtype, site.capturable, len(sites)) == (None, False, 4)
    assert site.not_capturable_reason == "its data type is 99, which a newer version of the client may know"


def test_an_output_of_a_type_that_this_client_does_not_know(face: Face, server: FakeServer) -> None:
    future: Any = 99
    server.outputs = {"logits": tensor_pb2.Tensor(data_type=future)}
    with pytest.raises(fluoroscope.ServerError, match=r"cannot read: output 'logits': data_type is 99.* newer"):
        face.call("predict", "digits", {"image": X})


def test_an_answer_that_is_none(connect: Callable[..., Face]) -> None:
    garbage: Any = grpc.unary_unary_rpc_method_handler(lambda _request, _context: b"\xff")
    services = {"Inference": "Predict", "Inspection": "ListSites", "Model": "ListModels"}
    running = grpc.server(ThreadPoolExecutor(max_workers=1))
    running.add_generic_rpc_handlers(
        [
            grpc.method_handlers_generic_handler(f"fluoroscope.v1.{service}Service", {method: garbage})
            for service, method in services.items()
        ]
    )
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    face = connect(f"127.0.0.1:{port}")
    for name, args in {"predict": ("digits", {"image": X}), "sites": ("digits",), "models": ()}.items():
        with pytest.raises(fluoroscope.ServerError, match=r"cannot read: 1 bytes are no \w+Response"):
            face.call(name, *args)
    running.stop(None).wait(10)


def test_a_plan(face: Face, server: FakeServer) -> None:
    question = {"sites": ["Dense_*"], "kinds": "module", "outputs": ["logits"], "execution": "staged"}
    plan = face.call("plan", "digits", {"image": X}, **question)

    (request,) = server.requests
    assert (request.rows, request.compile) == (len(X), False)
    assert not request.inspection.inputs
    assert request.inspection.execution == inspection_pb2.EXECUTION_STAGED
    assert list(request.inspection.captures[0].sites) == ["Dense_*"]
    assert [(each.site, each.kind, each.shape, each.byte_size) for each in plan.results] == [
        ("Dense_0", fluoroscope.SiteKind.MODULE, (2, 4), 32),
        ("logits", None, (2, 2), 16),
    ]
    assert (plan.bytes, plan.stages, plan.flops_fraction, plan.program) == (48, 3, 0.75, PROGRAM)
    assert (plan.held, plan.peak_bytes, plan.allowed) == (False, None, True)

    compiled = face.call("plan", "digits", 7, sites="**", compile=True, max_bytes=10, version=3)
    assert (server.requests[-1].rows, server.requests[-1].inspection.version) == (7, 3)
    assert (compiled.held, compiled.peak_bytes, compiled.allowed, compiled.refusal) == (True, 4096, False, "too large")


def test_an_execution_that_is_none(face: Face, server: FakeServer) -> None:
    with pytest.raises(fluoroscope.InvalidRequestError, match="there is no execution 'lazy'; there are auto, fused"):
        face.call("plan", "digits", 1, sites="**", execution="lazy")
    assert not server.requests


def test_a_model(face: Face) -> None:
    model = face.call("model", "digits", version=100)

    assert (model.name, model.version, model.state) == ("digits", 100, fluoroscope.ModelState.READY)
    assert str(model.inputs[0]) == "image: float32[batch, 2, 2, 1]"
    assert (model.buckets, model.parameter_count, model.device) == ((1, 8), 1234, "cpu")


def test_inspect(face: Face, server: FakeServer) -> None:
    found = face.call(
        "inspect",
        "digits",
        {"image": X},
        sites="**",
        kinds="module",
        slices=fluoroscope.Slice(0, None, 1),
        outputs=["logits"],
        max_bytes=1000,
        version=100,
    )

    assert list(found) == ["Dense_0", "Dense_0/relu:0", "head"]
    assert np.array_equal(found["Dense_0"].array, FLAT - 1)
    assert found["Dense_0/relu:0"].array.dtype == np.dtype(ml_dtypes.bfloat16)
    assert found["Dense_0/relu:0"].kind is fluoroscope.SiteKind.EQUATION
    assert fluoroscope.Statistics() not in found["head"]
    assert np.array_equal(found.outputs["logits"], FLAT[:, :2] * 2)
    assert (found.model, found.version, found.rows) == ("digits", 100, 2)
    assert found.program == PROGRAM
    assert found.stages == {"compute": 0.125}
    capture = server.requests[0].captures[0]
    assert (list(capture.sites), list(capture.kinds)) == (["**"], [1])
    assert list(capture.slices) == [inspection_pb2.Slice(axis=0, stop=1)]
    assert (server.requests[0].max_bytes, server.requests[0].version) == (1000, 100)


def test_several_reductions_of_a_site_come_back_as_one(face: Face) -> None:
    reductions = [fluoroscope.Statistics(), fluoroscope.Full()]
    found = face.call("inspect", "digits", {"image": X}, sites=["**"], reduce=reductions)

    assert len(found) == 3
    assert np.array_equal(found["head"].array, FLAT[:, :2] * 2)
    statistics = found["head"].statistics
    assert (statistics.count, statistics.min, statistics.max, statistics.zero_count) == (4, -4.0, 8.0, 0)
    assert statistics.var == pytest.approx((FLAT[:, :2] * 2).var())
    assert found["Dense_0"].statistics.zero_fraction == 1 / 8


def test_a_site_that_did_not_come(face: Face) -> None:
    found = face.call("inspect", "digits", {"image": X}, sites=["Dense_0", "head"])

    with pytest.raises(KeyError, match="no site 'Dense_9' came; these did: "):
        found["Dense_9"]
    assert "Dense_9" not in found
    assert found.get("Dense_9") is None


def test_stream_gives_values_before_the_stream_has_ended(face: Face, server: FakeServer) -> None:
    server.hold = threading.Event()

    first, second = face.take(2, "digits", {"image": X}, sites="**")

    assert (first.site, second.site) == ("Dense_0", "Dense_0/relu:0")
    assert np.array_equal(first.array, FLAT - 1)


def test_leaving_a_stream_early_cancels_the_call(face: Face, server: FakeServer) -> None:
    server.hold = threading.Event()

    face.take(1, "digits", {"image": X}, sites="**")

    assert server.cancelled.wait(10)


def test_progress(face: Face) -> None:
    heard: list[fluoroscope.Progress] = []
    face.take(None, "digits", {"image": X}, sites="**", progress=heard.append)

    assert [each.results for each in heard] == [0, 0, 0, 0, 1, 1, 2, 2, 3, 3]
    assert [each.byte_count for each in heard][-1] == heard[0].total_bytes == 32 + 16 + 16
    assert (heard[0].stages, heard[-1].stages) == ({}, {"compute": 0.125})


def test_a_stream_without_a_trailer_is_incomplete(face: Face, server: FakeServer) -> None:
    server.break_stream = lambda messages: messages[:-1]

    with pytest.raises(fluoroscope.IncompleteStreamError, match=r"all 3 results had come, but not the checksums"):
        face.call("inspect", "digits", {"image": X}, sites="**")


def test_an_empty_stream_is_incomplete(face: Face, server: FakeServer) -> None:
    server.break_stream = lambda messages: messages[:1]

    with pytest.raises(fluoroscope.IncompleteStreamError, match=r"missing from site 'Dense_0'"):
        face.take(None, "digits", {"image": X}, sites="**")


def test_a_changed_chunk_is_found(face: Face, server: FakeServer) -> None:
    server.break_stream = lambda messages: [*messages[:1], chunk_frame(0, 0, b"changed."), *messages[2:]]

    with pytest.raises(fluoroscope.CorruptStreamError, match=r"site 'Dense_0' \(result 0\) is corrupt"):
        face.call("inspect", "digits", {"image": X}, sites="**")


def test_chunks_in_another_order_are_found(face: Face, server: FakeServer) -> None:
    server.break_stream = lambda messages: [messages[0], messages[2], messages[1], *messages[3:]]

    with pytest.raises(fluoroscope.CorruptStreamError, match=r"'Dense_0'.* offset 8 came; expected offset 0"):
        face.call("inspect", "digits", {"image": X}, sites="**")
    assert server.cancelled.wait(10)


def test_a_stream_that_fails_on_its_way_says_what_had_come(face: Face, server: FakeServer) -> None:
    server.fail_late = True
    server.fail(grpc.StatusCode.UNAVAILABLE, "the server drains", ErrorInfo(reason="DRAINING"))
    server.break_stream = lambda messages: [*messages[:6], messages[-1]]

    with pytest.raises(fluoroscope.ServerUnavailableError, match=r"drains.*1 of 3 results .* 'Dense_0/relu:0'"):
        face.call("inspect", "digits", {"image": X}, sites="**")


def test_a_deadline_on_the_way_says_what_had_come(face: Face, server: FakeServer) -> None:
    server.hold = threading.Event()

    with pytest.raises(fluoroscope.DeadlineExceededError, match=r"all 3 results had come.*timeout="):
        face.call("inspect", "digits", {"image": X}, sites="**", timeout=0.5)


def test_no_server_fails_at_once_and_says_how_to_start_one(connect: Callable[..., Face]) -> None:
    face = connect("127.0.0.1:1", timeout=60)

    with pytest.raises(fluoroscope.ConnectionFailedError, match=r"127\.0\.0\.1:1.*fluoroscope-server serve") as caught:
        face.call("predict", "digits", {"image": X})
    assert caught.value.reason == "UNAVAILABLE"


def test_a_client_that_is_closed_says_so(face: Face, server: FakeServer) -> None:
    face.call("models")
    face.close()
    said = f"this client of {server.target} is closed: make another one"
    with pytest.raises(ValueError, match=said):
        face.call("models")
    with pytest.raises(ValueError, match=said):
        face.take(None, "digits", {"image": X}, sites="**")


def test_a_client_that_is_closed_in_a_pause_says_so(
    face: Face, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two attempts of a call."""

    async def paused(_: float) -> None:
        await face.client.close()

    monkeypatch.setattr(asyncio, "sleep", paused)
    monkeypatch.setattr(time, "sleep", lambda _: face.close())
    server.fail(grpc.StatusCode.UNAVAILABLE, "not now")
    with pytest.raises(fluoroscope.CallCancelledError, match=f"this client of {server.target} was closed"):
        face.call("models")


def hold_calls(server: FakeServer) -> tuple[threading.Event, threading.Event]:
    """Lets calls wait for the second event, having set the first."""
    come, go = threading.Event(), threading.Event()

    def hold(_: grpc.ServicerContext) -> None:
        come.set()
        go.wait(20)

    server.failure = hold
    return come, go


def test_closing_cancels_the_calls_and_not_the_tasks_that_wait_for_them(server: FakeServer) -> None:
    come, go = hold_calls(server)

    async def main() -> None:
        client = fluoroscope.AsyncClient(server.target, timeout=20)
        asked = asyncio.ensure_future(client.models())
        await asyncio.to_thread(come.wait, 10)
        await client.close()
        with pytest.raises(fluoroscope.CallCancelledError, match=f"this client of {server.target} was closed"):
            await asked

    asyncio.run(main())
    go.set()


def test_a_task_that_is_cancelled_is_cancelled_whether_its_client_is_closed_or_not(server: FakeServer) -> None:
    come, go = hold_calls(server)

    async def main() -> None:
        client = fluoroscope.AsyncClient(server.target, timeout=20)
        asked = asyncio.ensure_future(client.models())
        await asyncio.to_thread(come.wait, 10)
        asked.cancel()
        await client.close()
        with pytest.raises(asyncio.CancelledError):
            await asked

    asyncio.run(main())
    go.set()


def test_closing_in_the_midst_of_a_stream_says_what_had_come(server: FakeServer) -> None:
    server.hold = threading.Event()

    async def main() -> None:
        client = fluoroscope.AsyncClient(server.target, timeout=20)
        async with contextlib.aclosing(client.stream("digits", {"image": X}, sites="**")) as stream:
            assert (await anext(stream)).site == "Dense_0"
            await asyncio.to_thread(server.holding.wait, 10)
            await client.close()
            with pytest.raises(fluoroscope.CallCancelledError, match="was closed") as ended:
                _ = [each async for each in stream]
            assert ended.value.arrived is not None

    asyncio.run(main())


def test_threads_share_a_client(server: FakeServer) -> None:
    with fluoroscope.Client(server.target, timeout=20) as client, ThreadPoolExecutor(8) as threads:

        def ask(number: int) -> bool:
            x = np.full((1, 2, 2, 1), number, np.float32)
            found = client.inspect("digits", {"image": x}, sites="**")
            return np.array_equal(found["Dense_0"].array, np.full((1, 4), number - 1))

        assert all(threads.map(ask, range(40)))


def test_threads_that_call_first_at_once_share_a_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2)
    make = grpc.insecure_channel

    def slowly(*args: Any, **kwargs: Any) -> grpc.Channel:
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(0.2)  # for another thread, which must not come
        return make(*args, **kwargs)

    monkeypatch.setattr(grpc, "insecure_channel", slowly)
    with fluoroscope.Client() as client, ThreadPoolExecutor(2) as threads:
        first, second = threads.map(lambda _: client._channel, range(2))
        assert first is second


def test_both_faces_have_the_same_methods() -> None:
    def methods(face: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(getattr(face, name)).parameters)
            for name in dir(face)
            if not name.startswith("_")
        }

    assert methods(fluoroscope.Client) == methods(fluoroscope.AsyncClient)


def test_a_label_goes_wherever_a_version_is_looked_at() -> None:
    names = [name for name in dir(fluoroscope.Client) if not name.startswith("_")]
    taken = {name: inspect.signature(getattr(fluoroscope.Client, name)).parameters for name in names}
    changing = {"load_model", "unload_model"}
    assert {name for name in names if "version" in taken[name] and "label" not in taken[name]} == changing


@pytest.mark.parametrize("face", [fluoroscope.Client, fluoroscope.AsyncClient])
def test_help_tells_the_signature_and_the_words(face: type) -> None:
    for name in ("predict", "sites", "models", "model", "inspect", "stream", "parameters", "compare", "wait_ready"):
        method = getattr(face, name)
        assert inspect.signature(method).return_annotation not in {"", None}
        assert "Steps" not in str(inspect.signature(method))
        assert inspect.getdoc(method)
