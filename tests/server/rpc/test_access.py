"""Who may call what: every method that the server has, with every kind of token."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from google.protobuf import descriptor_pool, message_factory
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from fluoroscope.v1 import model_pb2
from fluoroscope_server.keys import Scope, entry_of, new_token
from fluoroscope_server.metrics import Metrics
from fluoroscope_server.rpc import RpcServer
from fluoroscope_server.rpc.access import ACCESS, OPEN
from fluoroscope_server.rpc.disclosure import PUBLIC
from fluoroscope_server.rpc.open_inference.inference import open_inference_pb2 as open_inference
from fluoroscope_server.settings import Settings

from ..serving.house import repository_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from google.protobuf.message import Message

    from fluoroscope_server.serving import Servable

WAIT = 30
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
GET_MODEL = "/fluoroscope.v1.ModelService/GetModel"
OPEN_INFERENCE = "/inference.GRPCInferenceService"
LIST_MODELS = "/fluoroscope.v1.ModelService/ListModels"
OK, UNAUTHENTICATED, DENIED = (
    grpc.StatusCode.OK,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
)
MODEL_FIELDS = ("model", "model_name")
"""What requests call the model that they mean."""

SECRETS = {name: new_token() for name in (*Scope, "all", "other")}
"""A token for each scope, one for all of them, and one for all of them but of another model."""


class Caller:
    """Calls methods of one server by their path, whatever their kind."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    async def ask(
        self, method: str, request: bytes = b"", *, token: str | None = None, authorization: str | None = None
    ) -> tuple[grpc.StatusCode, str, bytes]:
        """Returns the status, its words, and the first message that came."""
        shown = f"Bearer {token}" if token is not None else authorization
        metadata = () if shown is None else (("authorization", shown),)
        open_stream: Any = self._channel.unary_stream(method)
        call = open_stream(request, timeout=WAIT, metadata=metadata)
        try:
            async for message in call:
                return OK, "", message
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details() or "", b""
        finally:
            call.cancel()
        return OK, "", b""

    async def methods(self) -> dict[str, Any]:
        """Returns the descriptors of all methods that the server has, by their paths."""
        question = reflection_pb2.ServerReflectionRequest(list_services="")
        code, words, answer = await self.ask(REFLECTION, question.SerializeToString(), token=SECRETS[Scope.PREDICT])
        assert code is OK, words
        found = reflection_pb2.ServerReflectionResponse.FromString(answer)
        pool: Any = descriptor_pool.Default()
        services = [each.name for each in found.list_services_response.service]
        return {
            f"/{service}/{method.name}": method
            for service in services
            for method in pool.FindServiceByName(service).methods
        }


@pytest.fixture
def serve(servable: Servable, tmp_path: Path) -> Callable[[Callable[[Caller], Awaitable[None]]], None]:
    """Runs a test against a server that has tokens, and the models `digits` and `secret`."""
    file = tmp_path / "tokens.toml"
    entries = [entry_of(SECRETS[scope], scope, [scope], ["digits"]) for scope in Scope]
    entries += [entry_of(SECRETS["all"], "all", [*Scope]), entry_of(SECRETS["other"], "other", [*Scope], ["another"])]
    file.write_text("".join(entries))
    file.chmod(0o600)

    def run(test: Callable[[Caller], Awaitable[None]]) -> None:
        async def main() -> None:
            repository = repository_of(servable, "secret")
            server = RpcServer(repository, Metrics(), Settings(models=(), tokens=file))
            address = await server.start("127.0.0.1:0")
            server.set_health("secret", serving=True)
            try:
                async with grpc.aio.insecure_channel(address) as channel:
                    await test(Caller(channel))
            finally:
                await server.drain(0)

        asyncio.run(asyncio.wait_for(main(), 2 * WAIT))

    return run


def test_every_method_has_a_row(serve: Callable[..., None]) -> None:
    async def test(caller: Caller) -> None:
        methods = await caller.methods()
        assert len(methods) >= 8
        assert [path for path in methods if path not in ACCESS] == [], "each needs a row in rpc/access.py"

    serve(test)


def test_without_a_token_only_what_is_open_answers(serve: Callable[..., None]) -> None:
    async def test(caller: Caller) -> None:
        for path in await caller.methods():
            code, words, answer = await caller.ask(path)
            if ACCESS[path] == OPEN:
                assert code not in {UNAUTHENTICATED, DENIED}, path
            else:
                assert (code, answer) == (UNAUTHENTICATED, b""), path
                assert words == "no token came: send one as the metadata `authorization: Bearer TOKEN`"

    serve(test)


@pytest.mark.parametrize("scope", list(Scope))
def test_each_scope_is_for_its_own_methods(serve: Callable[..., None], scope: Scope) -> None:
    async def test(caller: Caller) -> None:
        for path in await caller.methods():
            code, words, answer = await caller.ask(path, token=SECRETS[scope])
            if scope in ACCESS[path] or ACCESS[path] == OPEN:
                assert code not in {UNAUTHENTICATED, DENIED}, f"{path}: {words}"
            else:
                assert (code, answer) == (DENIED, b""), path
                (needed,) = ACCESS[path]
                assert words == f"this needs the scope '{needed}', and token '{scope}' has {scope}", path

    serve(test)


def message_of(method: Any, model: str) -> Message | None:
    """Returns a request of a method that means a model; None if its requests mean none."""
    request: Any = message_factory.GetMessageClass(method.input_type)()
    for field in MODEL_FIELDS:
        if field in method.input_type.fields_by_name:
            setattr(request, field, model)
            return request  # type: ignore[no-any-return]  # made by its descriptor
    if "inspection" in method.input_type.fields_by_name:
        request.inspection.model = model
        return request  # type: ignore[no-any-return]  # made by its descriptor
    return None


def test_a_token_for_one_model_is_for_no_other(serve: Callable[..., None]) -> None:
    async def test(caller: Caller) -> None:
        tried = []
        for path, method in (await caller.methods()).items():
            for model in ("digits", "secret", "nothing"):  # that there is none is none of its business either
                request = message_of(method, model)
                if request is None:
                    continue
                code, words, _ = await caller.ask(path, request.SerializeToString(), token=SECRETS["other"])
                assert (code, words) == (DENIED, f"token 'other' is for other models than '{model}'"), path
                tried.append(path.rpartition("/")[2])
        assert {"Predict", "ListSites", "PlanInspection", "InspectActivations", "GetModel"} <= set(tried)

    serve(test)


@pytest.mark.parametrize(
    ("authorization", "words"),
    [
        ("Basic YTpi", "none of `Bearer TOKEN`"),
        ("", "none of `Bearer TOKEN`"),
        ("Bearer", "none of `Bearer TOKEN`"),
        (SECRETS["all"], "none of `Bearer TOKEN`"),
        ("Bearer ", "none that this server knows"),
        (f"Bearer {new_token()}", "none that this server knows"),
        (f"Bearer {SECRETS['all']}{SECRETS['all']}", "none that this server knows"),
    ],
    ids=["another scheme", "nothing", "no space", "no scheme", "no token", "unknown", "twice"],
)
def test_what_is_no_token(serve: Callable[..., None], authorization: str, words: str) -> None:
    async def test(caller: Caller) -> None:
        code, said, _ = await caller.ask(LIST_MODELS, authorization=authorization)
        assert code is UNAUTHENTICATED
        assert words in said
        assert SECRETS["all"] not in said

    serve(test)


def test_the_scheme_is_written_large_or_small(serve: Callable[..., None]) -> None:
    async def test(caller: Caller) -> None:
        for scheme in ("Bearer", "bearer", "BEARER"):
            code, words, _ = await caller.ask(LIST_MODELS, authorization=f"{scheme} {SECRETS['all']}")
            assert code is OK, words

    serve(test)


def test_who_may_not_inspect_learns_nothing_of_the_inside(serve: Callable[..., None]) -> None:
    async def model_for(caller: Caller, name: str) -> model_pb2.Model:
        request = model_pb2.GetModelRequest(model="digits").SerializeToString()
        code, words, answer = await caller.ask(GET_MODEL, request, token=SECRETS[name])
        assert code is OK, words
        code, words, listed = await caller.ask(LIST_MODELS, token=SECRETS[name])
        assert code is OK, words
        model = model_pb2.GetModelResponse.FromString(answer).model
        assert model in model_pb2.ListModelsResponse.FromString(listed).models
        return model

    async def test(caller: Caller) -> None:
        whole = await model_for(caller, Scope.INSPECT)
        assert {"family", "parameter_count", "site_count"} <= {field.name for field, _ in whole.ListFields()}
        for scope in (Scope.PREDICT, Scope.ADMIN):
            shown = await model_for(caller, scope)
            assert dict(shown.ListFields()) == {
                field: value for field, value in whole.ListFields() if field.name in PUBLIC
            }
            assert shown.inputs

    serve(test)


@pytest.mark.parametrize("scope", [Scope.PREDICT, Scope.ADMIN])
def test_nor_through_the_open_inference_protocol(serve: Callable[..., None], scope: Scope) -> None:
    question = open_inference.ModelInferRequest(model_name="digits", raw_input_contents=[bytes(16)])
    question.inputs.add(name="image", datatype="FP32", shape=(1, 2, 2))
    question.parameters["sites"].string_param = "Dense_*"

    async def platform(caller: Caller, token: str) -> str:
        request = open_inference.ModelMetadataRequest(name="digits").SerializeToString()
        code, words, answer = await caller.ask(f"{OPEN_INFERENCE}/ModelMetadata", request, token=token)
        assert code is OK, words
        told = open_inference.ModelMetadataResponse.FromString(answer).platform
        request = open_inference.ModelConfigRequest(name="digits").SerializeToString()
        code, words, answer = await caller.ask(f"{OPEN_INFERENCE}/ModelConfig", request, token=token)
        assert code is OK, words
        assert open_inference.ModelConfigResponse.FromString(answer).config.platform == told
        return told

    async def test(caller: Caller) -> None:
        for method in ("ModelInfer", "ModelStreamInfer"):
            path, request = f"{OPEN_INFERENCE}/{method}", question.SerializeToString()
            code, words, answer = await caller.ask(path, request, token=SECRETS[scope])
            assert (code, answer) == (DENIED, b"")
            assert scope is Scope.ADMIN or "this needs the scope 'inspect'" in words
            code, words, answer = await caller.ask(path, request, token=SECRETS["all"])
            assert code is OK, words
            assert b"Dense_0" in answer
        assert await platform(caller, SECRETS[scope]) == ""
        assert await platform(caller, SECRETS["all"]) == "base_network"

    serve(test)


def test_models_of_others_are_never_named(serve: Callable[..., None]) -> None:
    async def test(caller: Caller) -> None:
        _, _, listed = await caller.ask(LIST_MODELS, token=SECRETS[Scope.INSPECT])
        assert [model.name for model in model_pb2.ListModelsResponse.FromString(listed).models] == ["digits"]
        _, _, listed = await caller.ask(LIST_MODELS, token=SECRETS["all"])
        assert [model.name for model in model_pb2.ListModelsResponse.FromString(listed).models] == ["digits", "secret"]

        nameless = model_pb2.GetModelRequest().SerializeToString()
        code, words, _ = await caller.ask(GET_MODEL, nameless, token=SECRETS[Scope.INSPECT])
        assert (code, words) == (
            grpc.StatusCode.NOT_FOUND,
            "the request names no model; this server has: 'digits'",
        )
        missing = health_pb2.HealthCheckRequest(service="secre").SerializeToString()
        code, words, _ = await caller.ask("/grpc.health.v1.Health/Check", missing)
        assert (code, words) == (grpc.StatusCode.NOT_FOUND, "there is no service 'secre' to be healthy")

    serve(test)
