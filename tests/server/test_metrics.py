"""The metrics: there from the start, at nought, and nothing that promtool would say."""

from __future__ import annotations

import subprocess

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from fluoroscope_server.errors import REFUSALS
from fluoroscope_server.metrics import CODES, STAGES, Metrics

from ..lacking import program

TEXT = "text/plain"


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    _, body = metrics.render(TEXT)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for each in text_string_to_metric_families(body.decode())
        for sample in each.samples
    }


@pytest.fixture
def metrics() -> Metrics:
    """Metrics of a server with one method."""
    made = Metrics()
    made.method("unary", "fluoroscope.v1.InferenceService", "Predict")
    return made


def test_every_series_is_there_at_nought_from_the_start(metrics: Metrics) -> None:
    """So that a dashboard shows 0, and an alert on a rate has something to start from."""
    found = {key: value for key, value in samples(metrics).items() if key[0].startswith(("grpc_", "fluoroscope_"))}
    assert set(found.values()) == {0}
    method = {"grpc_type": "unary", "grpc_service": "fluoroscope.v1.InferenceService", "grpc_method": "Predict"}
    wanted: list[tuple[str, dict[str, str]]] = [
        ("grpc_server_started_total", method),
        ("grpc_server_in_flight", method),
        ("grpc_server_msg_received_total", method),
        ("grpc_server_msg_sent_total", method),
        ("grpc_server_handling_seconds_count", method),
        *(("grpc_server_handled_total", {**method, "grpc_code": code}) for code in CODES),
        *(
            ("fluoroscope_stage_seconds_count", {"method": name, "stage": stage})
            for name, stages in STAGES.items()
            for stage in stages
        ),
        ("fluoroscope_stream_bytes_total", {}),
        ("fluoroscope_stream_chunks_total", {}),
        ("fluoroscope_first_result_seconds_count", {}),
        ("fluoroscope_compile_seconds_count", {}),
        ("fluoroscope_program_requests_total", {"result": "held"}),
        ("fluoroscope_program_requests_total", {"result": "compiled"}),
    ]
    assert [
        (name, tuple(sorted(labels.items())))
        for name, labels in wanted
        if (name, tuple(sorted(labels.items()))) not in found
    ] == []


def test_every_status_code_of_grpc_is_there() -> None:
    assert set(CODES) == {code.name for code in grpc.StatusCode}


def test_what_is_counted(metrics: Metrics) -> None:
    metrics.observe_stages("Predict", [("decode", 0.25), ("compute", 0.5), ("compute", 1.0)])
    metrics.observe_compile(2.0)
    metrics.count_program(held=True)
    metrics.count_program(held=False)
    metrics.count_program(held=True)
    metrics.model_loaded(name="digits", version=7, family="f", device="cpu", seconds=1.5, parameter_bytes=40)
    found = samples(metrics)
    assert found["fluoroscope_stage_seconds_sum", (("method", "Predict"), ("stage", "compute"))] == 1.5
    assert found["fluoroscope_stage_seconds_count", (("method", "Predict"), ("stage", "compute"))] == 2
    assert found["fluoroscope_compile_seconds_sum", ()] == 2
    assert found["fluoroscope_program_requests_total", (("result", "held"),)] == 2
    assert found["fluoroscope_program_requests_total", (("result", "compiled"),)] == 1
    info = (("device", "cpu"), ("family", "f"), ("model", "digits"), ("version", "7"))
    assert found["fluoroscope_model_info", info] == 1
    version = (("model", "digits"), ("version", "7"))
    assert found["fluoroscope_model_load_seconds", version] == 1.5
    assert found["fluoroscope_model_parameter_bytes", version] == 40


def test_models_and_versions_that_come_and_go(metrics: Metrics) -> None:
    before = samples(metrics)
    metrics.model_added("digits")
    refused = {key[1]: value for key, value in samples(metrics).items() if key[0].startswith("fluoroscope_refused")}
    assert refused == {(("model", "digits"), ("reason", reason)): 0 for reason in REFUSALS}
    for version in (7, 8):
        metrics.model_loaded(name="digits", version=version, family="f", device="cpu", seconds=1, parameter_bytes=4)
    metrics.model_serves("digits", 8)
    metrics.checkpoint_refused("digits", "OUT_OF_MEMORY")
    metrics.checkpoint_refused("digits", "A_NEW_REASON")
    metrics.model_unloaded(name="digits", version=7, family="f", device="cpu")
    metrics.model_unloaded(name="digits", version=7, family="f", device="cpu")  # a second time does no harm
    found = samples(metrics)
    assert {dict(labels)["version"] for name, labels in found if name.startswith("fluoroscope_model_load")} == {"8"}
    assert found["fluoroscope_model_serving_version", (("model", "digits"),)] == 8
    assert found["fluoroscope_refused_checkpoints_total", (("model", "digits"), ("reason", "OUT_OF_MEMORY"))] == 1
    metrics.model_unloaded(name="digits", version=8, family="f", device="cpu")
    metrics.model_removed("digits")
    assert samples(metrics).keys() == before.keys()


def test_a_stage_that_is_not_known_is_an_error(metrics: Metrics) -> None:
    with pytest.raises(KeyError):
        metrics.observe_stages("Dream", [("decode", 1.0)])
    metrics.observe_stages("Predict", [("dreaming", 1.0)])
    with pytest.raises(KeyError):
        metrics.render(TEXT)
    metrics.observe_stages("Predict", [("decode", 1.0)])
    assert samples(metrics)["fluoroscope_stage_seconds_count", (("method", "Predict"), ("stage", "decode"))] == 1


def test_each_server_has_its_own(metrics: Metrics) -> None:
    metrics.observe_compile(1.0)
    assert samples(Metrics())["fluoroscope_compile_seconds_count", ()] == 0


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain"),
        ("text/plain;version=0.0.4", "text/plain"),
        ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", "application/openmetrics-text"),
        ("*/*", "text/plain"),
    ],
)
def test_formats(accept: str, content_type: str, metrics: Metrics) -> None:
    came, body = metrics.render(accept)
    assert came.startswith(content_type)
    assert body.endswith(b"# EOF\n") is content_type.startswith("application/openmetrics")
    assert b"_created" not in body


def test_promtool_finds_nothing_to_say(metrics: Metrics) -> None:
    promtool = program("promtool", "prometheus")
    metrics.model_loaded(name="digits", version=7, family="f", device="cpu", seconds=1.5, parameter_bytes=40)
    metrics.model_added("digits")
    metrics.model_serves("digits", 7)
    _, body = metrics.render(TEXT)
    checked = subprocess.run([promtool, "check", "metrics"], input=body, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")
