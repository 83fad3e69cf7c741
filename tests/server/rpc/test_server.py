"""The services as a client meets them, on loopback."""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import numpy as np
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from fluoroscope.v1 import inference_pb2, inspection_pb2, model_pb2
from fluoroscope.wire import StreamJoiner, decode_tensor, encode_tensor
from fluoroscope_server.engine import engine as engine_module
from fluoroscope_server.engine.program import compile_program
from fluoroscope_server.errors import SettingsError
from fluoroscope_server.metrics import STAGES, Metrics
from fluoroscope_server.rpc import RpcServer
from fluoroscope_server.serving import Repository
from fluoroscope_server.settings import Settings

from ..serving.house import repository_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from google.protobuf.message import Message

    from fluoroscope_server.engine import Program
    from fluoroscope_server.families.base_network import BaseNetwork
    from fluoroscope_server.serving import Servable

WAIT = 60
X = np.random.default_rng(0).normal(size=(3, 2, 2)).astype(np.float32)
SERVICE = "/fluoroscope.v1."


class Client:
    """Calls methods by their path, with messages."""

    def __init__(self, channel: grpc.aio.Channel, metrics: Metrics) -> None:
        self.channel = channel
        self.metrics = metrics

    async def ask(self, method: str, request: Message, answer: Any) -> Any:
        call: Any = self.channel.unary_unary(SERVICE + method, type(request).SerializeToString, answer.FromString)
        return await call(request, timeout=WAIT)

    async def inspect(self, request: inspection_pb2.InspectActivationsRequest) -> list[bytes]:
        call: Any = self.channel.unary_stream(
            SERVICE + "InspectionService/InspectActivations", type(request).SerializeToString
        )
        return [message async for message in call(request, timeout=WAIT)]


@pytest.fixture
def serve(servable: Servable) -> Callable[..., None]:
    """Runs a test against a server with a model that is loaded and one that is not yet."""

    def run(test: Callable[[Client], Awaitable[None]], **limits: Any) -> None:
        async def main() -> None:
            repository, metrics = repository_of(servable, "apples"), Metrics()
            server = RpcServer(repository, metrics, Settings(models=(), **limits))
            address = await server.start("127.0.0.1:0")
            server.set_health("digits", serving=True)
            try:
                async with grpc.aio.insecure_channel(address) as channel:
                    await test(Client(channel, metrics))
            finally:
                await server.drain(0)

        asyncio.run(asyncio.wait_for(main(), 2 * WAIT))

    return run


def predict_request(x: np.ndarray = X, model: str = "digits", **more: Any) -> inference_pb2.PredictRequest:
    request = inference_pb2.PredictRequest(model=model, **more)
    request.inputs["image"].CopyFrom(encode_tensor(x))
    return request


def inspect_request(*sites: str, x: np.ndarray = X, **more: Any) -> inspection_pb2.InspectActivationsRequest:
    captures = [inspection_pb2.Capture(sites=sites)] if sites else []
    request = inspection_pb2.InspectActivationsRequest(model="digits", captures=captures, **more)
    request.inputs["image"].CopyFrom(encode_tensor(x))
    return request


def test_predict(serve: Callable[..., None], module: BaseNetwork, variables: Any) -> None:
    async def test(client: Client) -> None:
        answer = await client.ask("InferenceService/Predict", predict_request(), inference_pb2.PredictResponse)
        assert (answer.model, answer.version, list(answer.outputs)) == ("digits", 0, ["logits"])
        logits = decode_tensor(answer.outputs["logits"])
        want: Any = module.apply(variables, X)
        np.testing.assert_allclose(logits, want, rtol=1e-5, atol=1e-6)
        for stage in STAGES["Predict"]:
            labels = {"method": "Predict", "stage": stage}
            assert client.metrics.registry.get_sample_value("fluoroscope_stage_seconds_count", labels) == 1

    serve(test)


def test_inspect(serve: Callable[..., None], servable: Servable, module: BaseNetwork, variables: Any) -> None:
    async def test(client: Client) -> None:
        request = inspect_request("activations/*", outputs=["logits"])
        request.captures[0].reductions.add().full.SetInParent()
        request.captures[0].reductions.add().statistics.SetInParent()
        joiner = StreamJoiner()
        results = [result for message in await client.inspect(request) if (result := joiner.feed(message))]
        assert joiner.header is not None
        assert joiner.header.digest == servable.digest
        applied: Any = module.apply(variables, X, return_activations=True)
        activations: list[np.ndarray] = applied[1]
        assert len(results) == 2 * len(activations) + 1
        for index, activation in enumerate(activations):
            array = results[2 * index].array
            assert array is not None
            np.testing.assert_allclose(array, activation, rtol=1e-5, atol=1e-6)
            summary = results[2 * index + 1].summary
            assert summary is not None
            assert summary.statistics.count == activation.size
        value = client.metrics.registry.get_sample_value
        byte_count = sum(activation.nbytes for activation in activations) + activations[-1].nbytes
        assert value("fluoroscope_stream_bytes_total") == byte_count
        assert value("fluoroscope_stream_chunks_total") == len(activations) + 1
        assert value("fluoroscope_first_result_seconds_count") == 1
        for stage in STAGES["InspectActivations"]:
            labels = {"method": "InspectActivations", "stage": stage}
            assert value("fluoroscope_stage_seconds_count", labels) == 1

    serve(test)


def test_pages_of_sites(serve: Callable[..., None], servable: Servable) -> None:
    async def test(client: Client) -> None:
        paths: list[str] = []
        token = ""
        while not paths or token:
            request = inspection_pb2.ListSitesRequest(model="digits", page_size=4, page_token=token)
            page = await client.ask("InspectionService/ListSites", request, inspection_pb2.ListSitesResponse)
            assert page.total_size == len(servable.engine.sites)
            paths += [site.path for site in page.sites]
            token = page.next_page_token
        assert paths == [site.path for site in servable.engine.sites]
        modules = inspection_pb2.ListSitesRequest(
            model="digits", globs=["Dense_*"], kinds=[inspection_pb2.SITE_KIND_MODULE]
        )
        found = await client.ask("InspectionService/ListSites", modules, inspection_pb2.ListSitesResponse)
        assert [site.path for site in found.sites] == ["Dense_0", "Dense_1", "Dense_2"]

    serve(test)


def test_models(serve: Callable[..., None], servable: Servable) -> None:
    async def test(client: Client) -> None:
        listed = await client.ask(
            "ModelService/ListModels", model_pb2.ListModelsRequest(), model_pb2.ListModelsResponse
        )
        assert [(each.name, each.state) for each in listed.models] == [
            ("apples", model_pb2.MODEL_STATE_LOADING),
            ("digits", model_pb2.MODEL_STATE_READY),
        ]
        request = model_pb2.GetModelRequest(model="digits")
        model = (await client.ask("ModelService/GetModel", request, model_pb2.GetModelResponse)).model
        assert (model.digest, model.sealed) == (servable.digest, False)
        assert len(bytes.fromhex(model.digest)) == 32
        assert model == listed.models[1]
        assert list(model.buckets) == [1, 4]
        assert [(each.name, list(each.shape)) for each in model.inputs] == [("image", [-1, 2, 2])]
        assert [(each.name, list(each.shape)) for each in model.outputs] == [("logits", [-1, 3])]
        assert (model.parameter_count, model.device) == (servable.engine.parameter_count, "cpu")
        assert model.site_count == len(servable.engine.sites)

    serve(test)


@pytest.mark.parametrize(
    ("method", "request_message", "code", "message"),
    [
        ("Predict", predict_request(model="digit"), "NOT_FOUND", "there is no model 'digit'"),
        ("Predict", predict_request(model=""), "NOT_FOUND", "the request names no model"),
        ("Predict", predict_request(model="apples"), "UNAVAILABLE", "model 'apples' is still being loaded"),
        ("Predict", predict_request(version=3), "NOT_FOUND", "model 'digits' has no version 3"),
        ("Predict", predict_request(X.astype(np.float16)), "INVALID_ARGUMENT", "came as float16[3, 2, 2]"),
        ("Predict", predict_request(outputs=["probabilities"]), "INVALID_ARGUMENT", "no output 'probabilities'"),
        ("Predict", predict_request(np.zeros((65, 2, 2), np.float32)), "RESOURCE_EXHAUSTED", "65 rows"),
        ("InspectActivations", inspect_request(), "INVALID_ARGUMENT", "captures is empty"),
        ("InspectActivations", inspect_request("Dense_9"), "NOT_FOUND", "there is no site 'Dense_9'"),
        ("InspectActivations", inspect_request("Dens_*"), "INVALID_ARGUMENT", "matches none of the"),
        ("InspectActivations", inspect_request("Dense_0", max_bytes=1), "RESOURCE_EXHAUSTED", "the limit is 1"),
    ],
)
def test_refusals(method: str, request_message: Any, code: str, message: str, serve: Callable[..., None]) -> None:
    async def test(client: Client) -> None:
        async def ask() -> None:
            if method == "Predict":
                await client.ask("InferenceService/Predict", request_message, inference_pb2.PredictResponse)
            else:
                await client.inspect(request_message)

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask()
        assert caught.value.code().name == code
        assert message in str(caught.value.details())

    serve(test)


def test_too_many_compiles_are_refused_and_predictions_are_not(
    serve: Callable[..., None], servable: Servable, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = threading.Event()

    def gated(*arguments: Any) -> Program:
        assert opened.wait(WAIT)
        return compile_program(*arguments)

    limit = Settings(models=()).max_compiles
    paths = [site.path for site in servable.engine.sites]
    questions = list(itertools.islice(itertools.combinations(paths, 2), limit + 2))

    async def test(client: Client) -> None:
        asked = [asyncio.ensure_future(client.inspect(inspect_request(*sites))) for sites in questions]
        refused, waiting = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        while len(refused) < 2:
            more, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            refused |= more
        for each in refused:
            error = each.exception()
            assert isinstance(error, grpc.aio.AioRpcError)
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert f"the limit is {limit}: " in str(error.details())
            assert any(b"COMPILES_BUSY" in value for _, value in error.trailing_metadata() if isinstance(value, bytes))
        answer = await client.ask("InferenceService/Predict", predict_request(), inference_pb2.PredictResponse)
        assert list(answer.outputs) == ["logits"]
        assert not any(each.done() for each in waiting)
        opened.set()
        assert min(len(frames) for frames in await asyncio.gather(*waiting)) > 2

    with monkeypatch.context() as patch:
        patch.setattr(engine_module, "compile_program", gated)
        serve(test)


def test_no_request_raises_the_servers_own_limit(serve: Callable[..., None]) -> None:
    async def test(client: Client) -> None:
        with pytest.raises(grpc.aio.AioRpcError, match=r"the limit is 100 \(max-inspection-mib\)"):
            await client.inspect(inspect_request("**", max_bytes=1 << 60))

    serve(test, max_inspection_bytes=100)


def test_requests_that_are_too_large_or_no_messages(serve: Callable[..., None]) -> None:
    async def test(client: Client) -> None:
        raw: Any = client.channel.unary_unary(SERVICE + "InferenceService/Predict")
        for data, code, says in (
            (b"x" * 5000, "RESOURCE_EXHAUSTED", "this request has 5,000 bytes, and the limit is 4,096"),
            (b"x" * 9000, "RESOURCE_EXHAUSTED", "larger than max"),  # gRPC's own words
            (b"\xff\xff", "INVALID_ARGUMENT", "is no fluoroscope.v1.PredictRequest"),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await raw(data, timeout=WAIT)
            assert caught.value.code().name == code
            assert says in str(caught.value.details())
        assert await client.ask("InferenceService/Predict", predict_request(), inference_pb2.PredictResponse)

    serve(test, max_request_bytes=4096)


def test_health_of_each_model_and_of_the_server(serve: Callable[..., None]) -> None:
    async def test(client: Client) -> None:
        check = client.channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            health_pb2.HealthCheckRequest.SerializeToString,
            health_pb2.HealthCheckResponse.FromString,
        )
        found = {name: (await check(health_pb2.HealthCheckRequest(service=name))).status for name in ("", "digits")}
        assert found == {
            "": health_pb2.HealthCheckResponse.NOT_SERVING,
            "digits": health_pb2.HealthCheckResponse.SERVING,
        }
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await check(health_pb2.HealthCheckRequest(service="pears"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        labels = {"grpc_type": "unary", "grpc_service": "grpc.health.v1.Health", "grpc_method": "Check"}
        value = client.metrics.registry.get_sample_value
        assert value("grpc_server_handled_total", {**labels, "grpc_code": "NOT_FOUND"}) == 1
        assert value("grpc_server_handled_total", {**labels, "grpc_code": "OK"}) == 2

    serve(test)


def test_reflection(serve: Callable[..., None]) -> None:
    async def test(client: Client) -> None:
        call = client.channel.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            reflection_pb2.ServerReflectionRequest.SerializeToString,
            reflection_pb2.ServerReflectionResponse.FromString,
        )
        answers = [answer async for answer in call(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))]
        names = {each.name for each in answers[0].list_services_response.service}
        assert {"fluoroscope.v1.InferenceService", "fluoroscope.v1.ModelService", "grpc.health.v1.Health"} <= names

    serve(test)


def test_a_port_that_is_taken() -> None:
    async def main() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            server = RpcServer(Repository(), Metrics(), Settings(models=()))
            with pytest.raises(SettingsError, match=f"cannot listen on {address}: is it an address of this machine"):
                await server.start(address)

    asyncio.run(asyncio.wait_for(main(), WAIT))


@pytest.mark.parametrize("where", ["unix:{}", "unix-abstract:{}"])
def test_a_unix_socket(servable: Servable, tmp_path: Path, where: str) -> None:
    async def main() -> None:
        listen = where.format(tmp_path / "socket")
        server = RpcServer(repository_of(servable), Metrics(), Settings(models=()))
        address = await server.start(listen)
        assert address == listen
        async with grpc.aio.insecure_channel(address) as channel:
            answer = await Client(channel, Metrics()).ask(
                "InferenceService/Predict", predict_request(), inference_pb2.PredictResponse
            )
            assert list(answer.outputs) == ["logits"]
            another = RpcServer(Repository(), Metrics(), Settings(models=()))
            with pytest.raises(SettingsError, match=f"cannot listen on {listen}: .*another server"):
                await another.start(listen)
            check: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
            assert await check(b""), "it is still there"
        await server.drain(0)

    asyncio.run(asyncio.wait_for(main(), WAIT))
