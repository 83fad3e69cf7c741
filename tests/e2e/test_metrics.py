"""What the server tells of itself: counted exactly, and scraped by a real Prometheus."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import grpc
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

import fluoroscope
from fluoroscope_server.metrics import STAGES
from fluoroscope_server.rpc.open_inference.inference import open_inference_pb2

from ..lacking import program
from . import raw
from .saved import batch
from .server_process import ServerProcess, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Saved
    from .server_process import Metrics

REPOSITORY = Path(__file__).parents[2]
OPEN_INFERENCE = "inference.GRPCInferenceService"
OPEN_INFERENCE_METHODS = open_inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods
METHODS = {
    ("unary", "fluoroscope.v1.InferenceService", "Predict"),
    ("unary", "fluoroscope.v1.InspectionService", "ListSites"),
    ("unary", "fluoroscope.v1.InspectionService", "PlanInspection"),
    ("server_stream", "fluoroscope.v1.InspectionService", "InspectActivations"),
    ("server_stream", "fluoroscope.v1.InspectionService", "InspectParameters"),
    ("server_stream", "fluoroscope.v1.InspectionService", "CompareActivations"),
    ("unary", "fluoroscope.v1.ModelService", "ListModels"),
    ("unary", "fluoroscope.v1.ModelService", "GetModel"),
    ("unary", "fluoroscope.v1.ModelService", "LoadModel"),
    ("unary", "fluoroscope.v1.ModelService", "UnloadModel"),
    ("unary", "fluoroscope.v1.ModelService", "SetLabel"),
    *(("unary", OPEN_INFERENCE, each.name) for each in OPEN_INFERENCE_METHODS if not each.client_streaming),
    ("bidi_stream", OPEN_INFERENCE, "ModelStreamInfer"),
    ("unary", "grpc.health.v1.Health", "Check"),
    ("server_stream", "grpc.health.v1.Health", "Watch"),
    ("bidi_stream", "grpc.reflection.v1alpha.ServerReflection", "ServerReflectionInfo"),
}


@pytest.fixture(scope="module")
def watched(checkpoints: Saved) -> Iterator[ServerProcess]:
    """A server that nobody but the tests of this file asks."""
    with ServerProcess({"relu": checkpoints.folders["relu"], "tanh": checkpoints.folders["tanh"]}) as server:
        yield server.until_ready()
        assert server.stop() == 0


def risen(after: Metrics, before: Metrics, name: str, **labels: str) -> float:
    return after.total(name, **labels) - before.total(name, **labels)


def test_every_method_is_exported_from_the_start(watched: ServerProcess) -> None:
    metrics = watched.metrics()
    for name in ("grpc_server_started_total", "grpc_server_in_flight", "grpc_server_handling_seconds_count"):
        found = {
            (each.labels["grpc_type"], each.labels["grpc_service"], each.labels["grpc_method"])
            for each in metrics.samples
            if each.name == name
        }
        assert found == METHODS, name
    assert metrics.total("grpc_server_handled_total", grpc_method="Predict", grpc_code="DATA_LOSS") == 0
    for method, stages in STAGES.items():
        for stage in stages:
            assert metrics.total("fluoroscope_stage_seconds_count", method=method, stage=stage) >= 0


def test_calls_are_counted_under_their_method_and_status(watched: ServerProcess) -> None:
    before = watched.metrics()
    with fluoroscope.Client(watched.target) as client:
        for rows in (1, 2, 3):
            client.predict("relu", {"x": batch(rows)})
        for _ in range(2):
            client.inspect("relu", {"x": batch(1)}, sites="activations/*", reduce=fluoroscope.Statistics())
        with pytest.raises(fluoroscope.NotFoundError):
            client.predict("nothing", {"x": batch(1)})
        with pytest.raises(fluoroscope.InvalidRequestError):
            client.inspect("relu", {"x": batch(1)}, sites="nothing*")
    watched.at_rest()
    after = watched.metrics()

    def rise(name: str, method: str, **labels: str) -> float:
        return risen(after, before, name, grpc_method=method, **labels)

    assert rise("grpc_server_started_total", "Predict") == 4
    assert rise("grpc_server_handled_total", "Predict") == 4
    assert rise("grpc_server_handled_total", "Predict", grpc_code="OK") == 3
    assert rise("grpc_server_handled_total", "Predict", grpc_code="NOT_FOUND") == 1
    assert rise("grpc_server_handling_seconds_count", "Predict") == 4
    assert rise("grpc_server_msg_received_total", "Predict") == 4
    assert rise("grpc_server_msg_sent_total", "Predict") == 3
    assert rise("grpc_server_handled_total", "InspectActivations", grpc_code="OK") == 2
    assert rise("grpc_server_handled_total", "InspectActivations", grpc_code="INVALID_ARGUMENT") == 1
    assert rise("grpc_server_msg_sent_total", "InspectActivations") == 2 * (1 + 5 + 1), "header, summaries, trailer"
    assert rise("grpc_server_handling_seconds_count", "InspectActivations") == 3


def test_stages_are_counted_once_for_each_request(watched: ServerProcess) -> None:
    before = watched.metrics()
    with fluoroscope.Client(watched.target) as client:
        for _ in range(5):
            client.predict("relu", {"x": batch(1)})
        for _ in range(3):
            found = client.inspect("relu", {"x": batch(2)}, sites="activations/*")
    watched.at_rest()
    after = watched.metrics()

    for method, count in (("Predict", 5), ("InspectActivations", 3)):
        for stage in STAGES[method]:
            labels = {"method": method, "stage": stage}
            assert risen(after, before, "fluoroscope_stage_seconds_count", **labels) == count, stage
            seconds = risen(after, before, "fluoroscope_stage_seconds_sum", **labels)
            assert 0 <= seconds < 60
        stages = risen(after, before, "fluoroscope_stage_seconds_sum", method=method)
        assert 0 < stages <= risen(after, before, "grpc_server_handling_seconds_sum", grpc_method=method)
    assert tuple(found.stages) == STAGES["InspectActivations"]
    assert risen(after, before, "fluoroscope_first_result_seconds_count") == 3
    assert 0 < risen(after, before, "fluoroscope_first_result_seconds_sum") < 60
    size = sum(each.array.nbytes for each in found.values())
    assert risen(after, before, "fluoroscope_stream_bytes_total") == 3 * size
    assert risen(after, before, "fluoroscope_stream_chunks_total") == 3 * len(found)


def open_inference_request(**parameters: str) -> bytes:
    request = open_inference_pb2.ModelInferRequest(model_name="relu")
    x = batch(1)
    request.inputs.add(name="x", datatype="FP32", shape=x.shape).contents.fp32_contents.extend(x.ravel())
    for name, text in parameters.items():
        request.parameters[name].string_param = text
    return request.SerializeToString()


def test_a_request_of_the_open_inference_protocol_has_the_same_stages_on_a_stream(watched: ServerProcess) -> None:
    predict, inspect = open_inference_request(), open_inference_request(sites="Dense_0")
    before = watched.metrics()
    for request in (predict, inspect):
        assert isinstance(raw.call(watched.target, f"/{OPEN_INFERENCE}/ModelInfer", request), list)
    with grpc.insecure_channel(watched.target) as channel:
        stream: Any = channel.stream_stream(f"/{OPEN_INFERENCE}/ModelStreamInfer")
        assert len(list(stream(iter((predict, inspect))))) == 2
    watched.at_rest()
    after = watched.metrics()

    def count(stage: str) -> float:
        return risen(after, before, "fluoroscope_stage_seconds_count", method="ModelInfer", stage=stage)

    stages = STAGES["ModelInfer"]
    expected = dict.fromkeys(stages, 4) | {"compile": 2}
    assert {stage: count(stage) for stage in stages} == expected


def test_compilations_are_counted(watched: ServerProcess) -> None:
    before = watched.metrics()
    with fluoroscope.Client(watched.target) as client:
        programs = [client.inspect("tanh", {"x": batch(1)}, sites=["tanh:0", "Dense_2"]).program for _ in range(3)]
    after = watched.metrics()

    assert [program.compiled for program in programs] == [True, False, False]
    assert risen(after, before, "fluoroscope_compile_seconds_count") == 1
    seconds = risen(after, before, "fluoroscope_compile_seconds_sum")
    assert seconds == pytest.approx(programs[0].compile_seconds, rel=1e-3)
    assert risen(after, before, "fluoroscope_program_requests_total", result="compiled") == 1
    assert risen(after, before, "fluoroscope_program_requests_total", result="held") == 2


def test_models_are_described(watched: ServerProcess) -> None:
    metrics = watched.metrics()
    for model in ("relu", "tanh"):
        labels = {"model": model, "version": "7", "family": "base_network", "device": "cpu"}
        assert metrics.total("fluoroscope_model_info", **labels) == 1
        assert metrics.total("fluoroscope_model_load_seconds", model=model) > 0
        assert metrics.total("fluoroscope_model_parameter_bytes", model=model) == 4 * 381
    assert metrics.total("process_resident_memory_bytes") > 1 << 20


def test_health_and_reflection_are_counted_too(watched: ServerProcess) -> None:
    before = watched.metrics()
    with grpc.insecure_channel(watched.target) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        assert stub.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError):
            stub.Check(health_pb2.HealthCheckRequest(service="nothing"))
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        assert watched.metrics().total("grpc_server_in_flight", grpc_method="Watch") == 1
        watch.cancel()
        assert "fluoroscope.v1.ModelService" in ProtoReflectionDescriptorDatabase(channel).get_services()
    watched.at_rest()
    after = watched.metrics()

    handled = "grpc_server_handled_total"
    assert risen(after, before, handled, grpc_method="Check", grpc_code="OK") == 1
    assert risen(after, before, handled, grpc_method="Check", grpc_code="NOT_FOUND") == 1
    assert risen(after, before, handled, grpc_method="Watch", grpc_code="CANCELLED") == 1
    assert risen(after, before, "grpc_server_msg_sent_total", grpc_method="Watch") == 1
    assert risen(after, before, "grpc_server_started_total", grpc_method="ServerReflectionInfo") >= 1
    assert risen(after, before, "grpc_server_msg_received_total", grpc_method="ServerReflectionInfo") >= 1


def test_promtool_has_nothing_to_say(watched: ServerProcess) -> None:
    run = subprocess.run(
        [program("promtool", "prometheus"), "check", "metrics"],
        input=watched.metrics().text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_openmetrics_is_spoken_to_who_asks_for_it(watched: ServerProcess) -> None:
    accept = "application/openmetrics-text; version=1.0.0"
    with urlopen(Request(f"{watched.http}/metrics", headers={"Accept": accept}), timeout=30) as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        assert answer.read().endswith(b"# EOF\n")


class Prometheus:
    """A Prometheus with our own configuration, on a free port."""

    def __init__(self, folder: Path, target: str) -> None:
        config = yaml.safe_load((REPOSITORY / "deploy" / "prometheus" / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        (job,) = config["scrape_configs"]
        (static,) = job["static_configs"]
        static["targets"] = [target]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.process = subprocess.Popen(
            [program("prometheus", "prometheus"), "--config.file=prometheus.yml", "--web.listen-address=127.0.0.1:0"],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.url = ""
        assert self.process.stderr is not None
        said = []
        for line in self.process.stderr:
            said.append(line)
            if found := re.search(r'Listening on" address=(\S+)', line):
                self.url = f"http://{found[1]}"
                break
        assert self.url, "".join(said)
        self._listener = threading.Thread(target=self.process.stderr.read)  # so that it never waits for us
        self._listener.start()

    def query(self, expression: str) -> list[dict[str, Any]]:
        try:
            with urlopen(f"{self.url}/api/v1/query?{urlencode({'query': expression})}", timeout=10) as answer:
                found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        except OSError:  # it begins to listen before it answers
            return []
        return found

    def value(self, expression: str) -> float | None:
        found = self.query(expression)
        return float(found[0]["value"][1]) if len(found) == 1 else None

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)
        self._listener.join(60)
        assert self.process.stderr is not None
        self.process.stderr.close()


@pytest.fixture
def prometheus(watched: ServerProcess, tmp_path: Path) -> Iterator[Prometheus]:
    running = Prometheus(tmp_path, watched.http.removeprefix("http://"))
    yield running
    running.stop()


def test_a_real_prometheus_scrapes_it(watched: ServerProcess, prometheus: Prometheus) -> None:
    eventually(lambda: prometheus.value('up{job="fluoroscope"}') == 1, what="Prometheus finds the server up")
    counted = watched.metrics().total("grpc_server_handled_total", grpc_method="Predict", grpc_code="OK")
    with fluoroscope.Client(watched.target) as client:
        for _ in range(7):
            client.predict("tanh", {"x": batch(1)})
        client.inspect("tanh", {"x": batch(1)}, sites="Dense_0")

    calls = 'sum(grpc_server_handled_total{grpc_method="Predict",grpc_code="OK"})'
    eventually(lambda: prometheus.value(calls) == counted + 7, what="Prometheus counts the calls made")
    assert prometheus.value("count(fluoroscope_model_info == 1)") == 2
    assert prometheus.value("sum(grpc_server_in_flight)") == 0
    labels = 'method="Predict",stage="compute"'
    p99 = prometheus.value(f"histogram_quantile(0.99, sum by (le) (fluoroscope_stage_seconds_bucket{{{labels}}}))")
    assert p99 is not None
    assert 0 < p99 < 10
    errors = prometheus.query('grpc_server_handled_total{grpc_method="InspectActivations",grpc_code!="OK"}')
    assert len(errors) == 16, "a panel of errors shows 0, not nothing"


def test_an_unknown_method_is_unimplemented_and_has_no_series(watched: ServerProcess) -> None:
    before = watched.metrics()
    found = raw.call(watched.target, "/fluoroscope.v1.InferenceService/Nothing", b"")
    assert isinstance(found, raw.Refusal)
    assert found.code == "UNIMPLEMENTED"
    watched.at_rest()
    after = watched.metrics()
    for name in ("grpc_server_started_total", "grpc_server_handled_total", "grpc_server_in_flight"):
        assert risen(after, before, name) == 0, name
    assert "Nothing" not in after.text, "whoever invents names would fill the memory with series"


GARBAGE = [
    pytest.param("/grpc.health.v1.Health/Check", "Check"),
    pytest.param("/grpc.health.v1.Health/Watch", "Watch"),
    pytest.param("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", "ServerReflectionInfo"),
]


@pytest.mark.parametrize(("method", "name"), GARBAGE)
def test_garbage_for_the_standard_services_harms_nobody(watched: ServerProcess, method: str, name: str) -> None:
    found = raw.call(watched.target, method, b"\xff" * 64)
    assert isinstance(found, raw.Refusal), name
    assert found.code != "OK"
    watched.at_rest()
    assert isinstance(raw.call(watched.target, raw.PREDICT, raw.predict()), list)


@pytest.mark.parametrize(("method", "name"), GARBAGE)
def test_garbage_for_the_standard_services_is_told_as_such_and_counted(
    watched: ServerProcess, method: str, name: str
) -> None:
    before = watched.metrics()
    found = raw.call(watched.target, method, b"\xff" * 64)
    watched.at_rest()
    assert isinstance(found, raw.Refusal)
    assert found.code == "INVALID_ARGUMENT"
    handled = "grpc_server_handled_total"
    assert risen(watched.metrics(), before, handled, grpc_method=name, grpc_code="INVALID_ARGUMENT") == 1
