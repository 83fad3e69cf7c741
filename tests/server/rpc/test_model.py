"""ModelService: models and their versions as a client sees them, and changes."""

from __future__ import annotations

import asyncio
import os
import shutil
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import grpc
import grpc.aio
import pytest

from fluoroscope.v1 import inference_pb2, inspection_pb2, model_pb2
from fluoroscope.wire import StreamJoiner, encode_tensor
from fluoroscope_server.metrics import Metrics
from fluoroscope_server.rpc import RpcServer
from fluoroscope_server.rpc.inspection import InspectionService
from fluoroscope_server.rpc.open_inference.inference import open_inference_pb2 as open_inference
from fluoroscope_server.serving import Limits, ModelEntry, Repository
from fluoroscope_server.settings import Settings

from ..serving.house import House, X, damage, write_step

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from fluoroscope_server.serving import DeviceQueue

WAIT = 60
INPUT = open_inference.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=X.shape)


class Client:
    """Calls methods by their names, with the fields of their requests."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    async def __call__(self, method: str, **fields: Any) -> Any:
        request, answer = getattr(model_pb2, f"{method}Request"), getattr(model_pb2, f"{method}Response")
        call: Any = self._channel.unary_unary(
            f"/fluoroscope.v1.ModelService/{method}", request.SerializeToString, answer.FromString
        )
        found = await call(request(**fields), timeout=WAIT)
        return found.models if method == "ListModels" else found.model

    async def predict(self, **selector: Any) -> int:
        request = inference_pb2.PredictRequest(model="net", inputs={"x": encode_tensor(X)}, **selector)
        call: Any = self._channel.unary_unary(
            "/fluoroscope.v1.InferenceService/Predict",
            inference_pb2.PredictRequest.SerializeToString,
            inference_pb2.PredictResponse.FromString,
        )
        return int((await call(request, timeout=WAIT)).version)

    async def open_inference(self, method: str, **fields: Any) -> Any:
        request, answer = (getattr(open_inference, f"{method}{form}") for form in ("Request", "Response"))
        call: Any = self._channel.unary_unary(
            f"/inference.GRPCInferenceService/{method}", request.SerializeToString, answer.FromString
        )
        return await call(request(**fields), timeout=WAIT)

    def stream(self) -> Any:
        call: Any = self._channel.stream_stream(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            open_inference.ModelInferRequest.SerializeToString,
            open_inference.ModelStreamInferResponse.FromString,
        )
        return call(timeout=WAIT)

    async def refused(self, call: Coroutine[Any, Any, Any]) -> tuple[str, str]:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        return caught.value.code().name, str(caught.value.details())


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """The folder of the model `net`, with step 1."""
    model = tmp_path / "models" / "net"
    write_step(model, 1)
    return model


@pytest.fixture
def serve(net: Path, device: DeviceQueue) -> Callable[[Callable[[House, Client], Coroutine[Any, Any, None]]], None]:
    """Runs a test against a server of a house of models."""

    def run(test: Callable[[House, Client], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            async with House(net.parent, device) as house:
                server = RpcServer(house.repository, house.metrics, Settings(models=()), house.operations)
                address = await server.start("127.0.0.1:0")
                try:
                    async with grpc.aio.insecure_channel(address) as channel:
                        await test(house, Client(channel))
                finally:
                    await server.drain(0)

        asyncio.run(asyncio.wait_for(main(), WAIT))

    return run


def versions(model: model_pb2.Model) -> list[tuple[int, str, list[str]]]:
    state = model_pb2.ModelState.Name
    return [(each.version, state(each.state)[12:], list(each.labels)) for each in model.versions]


def test_what_serves_is_changed(serve: Callable[..., None], net: Path) -> None:
    async def test(house: House, client: Client) -> None:
        write_step(net, 2)
        loaded = await client("LoadModel", model="net", version=2)
        assert (loaded.version, loaded.parameter_count) == (2, 15)
        assert await client.predict() == 2
        labelled = await client("SetLabel", model="net", label="stable", version=1)
        assert (dict(labelled.labels), labelled.version) == ({"stable": 1}, 2)
        assert versions(labelled) == [(1, "READY", ["stable"]), (2, "READY", [])]
        assert [await client.predict(**each) for each in ({"label": "stable"}, {"version": 1}, {})] == [1, 1, 2]
        assert (await client("GetModel", model="net", label="stable")).version == 1
        code, message = await client.refused(client("UnloadModel", model="net", version=1))
        assert (code, "version 1 is 'stable'" in message) == ("FAILED_PRECONDITION", True)
        cleared = await client("SetLabel", model="net", label="stable")
        assert dict(cleared.labels) == {}
        assert versions(await client("UnloadModel", model="net", version=1)) == [(2, "READY", [])]
        unloaded = await client("UnloadModel", model="net")
        assert unloaded.state == model_pb2.MODEL_STATE_UNLOADED
        assert "unloaded by an operator" in unloaded.state_reason
        assert (await client.refused(client.predict()))[0] == "UNAVAILABLE"
        assert (await client.refused(client("GetModel", model="net")))[0] == "UNAVAILABLE"
        assert [each.state for each in await client("ListModels")] == [model_pb2.MODEL_STATE_UNLOADED]
        assert (await client("LoadModel", model="net")).version == 2
        assert house.loaded() == [2]

    serve(test)


def test_a_stream_ends_on_the_version_that_it_began_with(serve: Callable[..., None], net: Path) -> None:
    request = inspection_pb2.InspectActivationsRequest(
        model="net",
        inputs={"x": encode_tensor(X)},
        captures=[inspection_pb2.Capture(sites=["**"], kinds=[inspection_pb2.SITE_KIND_MODULE])],
        execution=inspection_pb2.EXECUTION_STAGED,
    )

    async def test(house: House, client: Client) -> None:
        begun, swapped = asyncio.Event(), asyncio.Event()
        joiner = StreamJoiner()

        async def inspect() -> list[Any]:
            service = InspectionService(house.repository, house.metrics, Limits())
            found: list[Any] = []
            frames = service.inspect_activations(
                request.SerializeToString(), cast("Any", SimpleNamespace(peer=lambda: "ipv4:127.0.0.1:1"))
            )
            async for frame in frames:
                found += filter(None, [joiner.feed(frame)])
                begun.set()
                await swapped.wait()
            return found

        inspecting = asyncio.ensure_future(inspect())
        await begun.wait()
        write_step(net, 2)
        await house.watcher.look()
        assert await client.predict() == 2
        assert versions(await client("GetModel", model="net")) == [(1, "UNLOADING", []), (2, "READY", [])]
        swapped.set()
        results = await inspecting
        assert joiner.header is not None
        assert joiner.header.version == 1
        assert joiner.trailer is not None
        assert results[-1].array.tolist() == [[1, 1, 1]]
        await house.swapper.released()
        assert versions(await client("GetModel", model="net")) == [(2, "READY", [])]

    serve(test)


def test_a_refused_step_is_told(serve: Callable[..., None], net: Path) -> None:
    async def test(house: House, client: Client) -> None:
        damage(write_step(net, 2))
        await house.watcher.look()
        model = await client("GetModel", model="net")
        assert versions(model) == [(1, "READY", []), (2, "FAILED", [])]
        assert "checkpoint 'net', step 2" in model.versions[1].state_reason
        code, message = await client.refused(client("LoadModel", model="net", version=2))
        assert (code, str(net) in message) == ("FAILED_PRECONDITION", False)
        assert "checkpoint 'net', step 2" in message
        assert await client.predict() == 1
        (net / "1").rename(net / ".away")
        damage(write_step(net.parent / "broken", 3))
        await house.watcher.look()
        broken, _ = await client("ListModels")
        assert (broken.name, broken.state) == ("broken", model_pb2.MODEL_STATE_FAILED)
        assert "has no version that serves; 3 was refused: model 'broken'" in broken.state_reason
        assert str(net.parent) not in broken.state_reason

    serve(test)


def test_a_refused_step_whose_files_have_no_unicode_names(serve: Callable[..., None], net: Path) -> None:
    """It is told of all the same, and hides no other model."""

    async def test(house: House, client: Client) -> None:
        params = write_step(net, 2) / "params"
        params.rename(params.with_name("b"))
        shutil.copytree(params.with_name("b"), os.fsdecode(bytes(params.parent) + b"/a\xff"))
        await house.watcher.look()
        (model,) = await client("ListModels")
        assert r"several items that could be the weights: a\udcff, b. Name" in model.versions[1].state_reason
        code, message = await client.refused(client("LoadModel", model="net", version=2))
        assert (code, r"a\udcff, b" in message) == ("FAILED_PRECONDITION", True)

    serve(test)


def test_clients_of_the_open_inference_protocol_load_and_unload(serve: Callable[..., None], net: Path) -> None:
    async def test(house: House, client: Client) -> None:
        write_step(net, 2)
        await client.open_inference("RepositoryModelLoad", model_name="net")
        assert house.loaded() == [2]
        await house.operations.load("net", 1)
        metadata = await client.open_inference("ModelMetadata", name="net")
        assert list(metadata.versions) == ["1", "2"]
        index = await client.open_inference("RepositoryIndex")
        assert [(each.name, each.version, each.state) for each in index.models] == [
            ("net", "1", "READY"),
            ("net", "2", "READY"),
        ]
        await client.open_inference("RepositoryModelUnload", model_name="net")
        (model,) = (await client.open_inference("RepositoryIndex")).models
        assert (model.state, "unloaded by an operator" in model.reason) == ("UNAVAILABLE", True)
        code, message = await client.refused(client.open_inference("RepositoryModelLoad", model_name="ten"))
        assert (code, message.startswith("Request for unknown model: there is no model 'ten'")) == ("NOT_FOUND", True)
        parameters = {"config": open_inference.ModelRepositoryParameter(string_param="{}")}
        load = client.open_inference("RepositoryModelLoad", model_name="net", parameters=parameters)
        code, message = await client.refused(load)
        assert (code, "parameter 'config' is not taken" in message) == ("INVALID_ARGUMENT", True)

    serve(test)


def test_clients_of_the_open_inference_protocol_name_versions_by_labels(serve: Callable[..., None], net: Path) -> None:
    async def test(house: House, client: Client) -> None:
        write_step(net, 2)
        await house.operations.load("net", 2)
        house.operations.set_label("net", "stable", 1)
        request = {"raw_input_contents": [X.tobytes()], "inputs": [INPUT]}
        answer = await client.open_inference("ModelInfer", model_name="net", model_version="stable", **request)
        assert answer.model_version == "1"
        assert (await client.open_inference("ModelReady", name="net", version="stable")).ready
        assert not (await client.open_inference("ModelReady", name="net", version="stale")).ready
        code, message = await client.refused(client.open_inference("ModelConfig", name="net", version="stale"))
        assert (code, message) == (
            "NOT_FOUND",
            "Request for unknown model: model 'net' has no label 'stale'; it has 'stable' (version 1); "
            "a version is a number of 19 digits at most, or a label",
        )

    serve(test)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, ["1", "2"]),
        ({"name": "net"}, ["1", "2"]),
        ({"name": "net", "version": "1"}, ["1"]),
        ({"name": "net", "version": "stable"}, ["1"]),
    ],
    ids=["of all models", "of a model", "of a version", "of a label"],
)
def test_statistics_of_all_versions_that_are_meant(
    serve: Callable[..., None], net: Path, fields: dict[str, str], told: list[str]
) -> None:
    async def test(house: House, client: Client) -> None:
        write_step(net, 2)
        await house.operations.load("net", 2)
        house.operations.set_label("net", "stable", 1)
        statistics = (await client.open_inference("ModelStatistics", **fields)).model_stats
        assert [(each.name, each.version) for each in statistics] == [("net", each) for each in told]

    serve(test)


def test_the_index_says_what_is_being_loaded(serve: Callable[..., None]) -> None:
    async def test(house: House, client: Client) -> None:
        house.repository.put(ModelEntry("late"))
        models = (await client.open_inference("RepositoryIndex")).models
        assert [(each.name, each.state, each.reason) for each in models] == [
            ("late", "LOADING", "model 'late' is still being loaded; try again soon"),
            ("net", "READY", ""),
        ]
        ready = await client.open_inference("RepositoryIndex", ready=True)
        assert [each.name for each in ready.models] == ["net"]
        assert (await client.refused(client.open_inference("ModelStatistics", name="late")))[0] == "UNAVAILABLE"

    serve(test)


def test_a_stream_of_many_requests_keeps_a_version_for_one_of_them(serve: Callable[..., None], net: Path) -> None:
    request = open_inference.ModelInferRequest(model_name="net", raw_input_contents=[X.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=X.shape)

    async def test(house: House, client: Client) -> None:
        stream = client.stream()
        await stream.write(request)
        assert (await stream.read()).infer_response.model_version == "1"
        write_step(net, 2)
        await house.watcher.look()
        await house.swapper.released()
        assert house.said[-1] == "unloaded net: version 1", "though the stream is still open"
        await stream.write(request)
        assert (await stream.read()).infer_response.model_version == "2"
        await stream.done_writing()

    serve(test)


@pytest.mark.parametrize(
    ("method", "fields", "code", "message"),
    [
        ("LoadModel", {"model": "met"}, "NOT_FOUND", "there is no model 'met'; this server has: 'net'"),
        ("LoadModel", {"model": "net", "version": 0}, "NOT_FOUND", "has no committed step 0; it has 1"),
        ("UnloadModel", {"model": "met"}, "NOT_FOUND", "there is no model 'met'"),
        (
            "UnloadModel",
            {"model": "net", "version": 0},
            "NOT_FOUND",
            "version 0 of model 'net' is not loaded; loaded: 1",
        ),
        ("SetLabel", {"model": "met", "label": "x", "version": 1}, "NOT_FOUND", "there is no model 'met'"),
        ("SetLabel", {"model": "net", "label": "x", "version": 0}, "FAILED_PRECONDITION", "load it first; loaded: 1"),
        ("SetLabel", {"model": "net", "label": "a b"}, "INVALID_ARGUMENT", "label name 'a b' may hold letters"),
        ("GetModel", {"model": "net", "label": "x"}, "NOT_FOUND", "model 'net' has no label 'x'; it has none"),
        ("GetModel", {"model": "net", "version": 7}, "NOT_FOUND", "model 'net' has no version 7; it has 1 loaded"),
    ],
)
def test_refusals(serve: Callable[..., None], method: str, fields: dict[str, Any], code: str, message: str) -> None:
    async def test(_: House, client: Client) -> None:
        came, words = await client.refused(client(method, **fields))
        assert came == code
        assert message in words

    serve(test)


def test_a_server_whose_models_stay_as_they_are() -> None:
    async def main() -> None:
        repository = Repository()
        repository.put(ModelEntry("net"))
        server = RpcServer(repository, Metrics(), Settings(models=()))
        address = await server.start("127.0.0.1:0")
        async with grpc.aio.insecure_channel(address) as channel:
            client = Client(channel)
            for method in ("LoadModel", "UnloadModel", "SetLabel"):
                code, words = await client.refused(client(method, model="net"))
                assert (code, words) == (
                    "FAILED_PRECONDITION",
                    "this server neither loads nor unloads models while it runs",
                )
        await server.drain(0)

    asyncio.run(asyncio.wait_for(main(), WAIT))
