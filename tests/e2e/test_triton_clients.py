"""Clients of the Open Inference Protocol that others wrote, as they are: tritonclient and perf_analyzer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest
from google.protobuf import descriptor_pb2

from fluoroscope_server.rpc.open_inference.inference import open_inference_pb2 as messages

from ..lacking import lack
from .saved import batch, save_one
from .server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

    import fluoroscope

SCRIPT = Path(__file__).parent / "scripts" / "triton_client.py"
CLIENT = "tritonclient[grpc]==2.73.0"
ANALYZER = ("tritonclient==2.49.0", "nvidia-cuda-runtime-cu12==12.9.79")
"""The last package that brings perf_analyzer as a program, and a library that it is linked with."""


def run(*words: str | Path, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*map(str, words)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, **(environment or {})},
    )


def pip(*words: str | Path) -> None:
    """Runs pip; packages may be lacking."""
    done = run(sys.executable, "-m", "pip", "--disable-pip-version-check", *words)
    if done.returncode != 0:
        pytest.skip(f"pip could not bring what this test needs: {done.stderr.strip().splitlines()[-1]}")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with tritonclient, whose bounds are not those of ours."""
    folder = tmp_path_factory.mktemp("triton")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    pip("--python", python, "install", "--quiet", CLIENT)
    return python


@pytest.fixture(scope="module")
def analyzer(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The program perf_analyzer, and the environment that it needs."""
    folder = tmp_path_factory.mktemp("analyzer")
    pip("download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", folder, *ANALYZER)
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
    (program,) = folder.glob("tritonclient-*.data/data/bin/perf_analyzer")
    program.chmod(0o755)
    environment = {"LD_LIBRARY_PATH": str(folder / "nvidia" / "cuda_runtime" / "lib")}
    done = run(program, "--version", environment=environment)
    if "libb64" in done.stderr:
        lack("perf_analyzer needs the system's libb64 (Debian: libb64-0d)")
    assert done.returncode == 0, done.stderr
    return program, environment


@pytest.fixture(scope="module")
def answers(
    python: Path, server: ServerProcess, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What tritonclient was told, and the arrays that it received."""
    folder = tmp_path_factory.mktemp("answers")
    np.save(folder / "x.npy", batch(3))
    done = run(python, SCRIPT, server.target, "relu", folder / "x.npy", folder / "found.npz")
    assert done.returncode == 0, done.stderr
    with np.load(folder / "found.npz") as found:
        return json.loads(done.stdout), dict(found)


def fields_of(message: descriptor_pb2.DescriptorProto, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields every field of a message and of those in it, with what a client must agree on."""
    name = prefix + message.name
    for field in message.field:
        yield f"{name}.{field.name}", (field.number, field.type, field.label, field.type_name)
    for nested in message.nested_type:
        yield from fields_of(nested, f"{name}.")


def test_our_messages_have_the_numbers_of_the_specification(python: Path) -> None:
    program = (
        "from tritonclient.grpc import model_config_pb2 as a, service_pb2 as b\n"
        "for file in (a, b): print(file.DESCRIPTOR.serialized_pb.hex())"
    )
    done = run(python, "-c", program)
    assert done.returncode == 0, done.stderr
    files = [descriptor_pb2.FileDescriptorProto.FromString(bytes.fromhex(line)) for line in done.stdout.split()]
    theirs = {name: field for file in files for each in file.message_type for name, field in fields_of(each)}
    own = descriptor_pb2.FileDescriptorProto.FromString(messages.DESCRIPTOR.serialized_pb)
    ours = {name: field for each in own.message_type for name, field in fields_of(each)}
    assert len(ours) > 100
    assert ours == {name: theirs.get(name) for name in ours}


def test_tritonclient_predicts_as_our_own_client_does(
    answers: tuple[dict[str, Any], dict[str, np.ndarray]], client: fluoroscope.Client
) -> None:
    found = answers[1]
    expected = client.predict("relu", {"x": batch(3)})["logits"]
    for way in ("sync:logits", "sites:logits", "stream:plain:logits", "aio:logits"):
        np.testing.assert_array_equal(found[way], expected, strict=True, err_msg=way)


@pytest.mark.parametrize("way", ["sites:", "stream:sites:"])
def test_tritonclient_sees_inside(
    answers: tuple[dict[str, Any], dict[str, np.ndarray]], client: fluoroscope.Client, way: str
) -> None:
    found = {name.removeprefix(way): array for name, array in answers[1].items() if name.startswith(way)}
    found.pop("logits", None)
    expected = client.inspect("relu", {"x": batch(3)}, sites=["Dense_0", "relu:*"])
    assert list(found) == list(expected)
    for name, activation in expected.items():
        np.testing.assert_array_equal(found[name], activation.array, strict=True)


def test_what_tritonclient_is_told(answers: tuple[dict[str, Any], dict[str, np.ndarray]]) -> None:
    said = answers[0]
    assert [said[each] for each in ("live", "ready", "model_ready", "nobody_ready")] == [True, True, True, False]
    assert said["server"]["name"] == "fluoroscope"
    metadata = said["metadata"]
    assert metadata["name"] == "relu"
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": ["-1", "6"]}]
    assert [each["name"] for each in metadata["outputs"]] == ["logits"]
    assert said["config"]["config"]["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": ["6"]}]
    assert {"name": "relu", "version": metadata["versions"][0], "state": "READY"} in said["index"]["models"]
    (statistics,) = said["statistics"]["model_stats"]
    success = statistics["inference_stats"]["success"]
    assert int(success["count"]) >= 4
    assert int(success["ns"]) > int(statistics["inference_stats"]["compute_infer"]["ns"]) > 0
    assert int(statistics["inference_count"]) >= int(success["count"]) + 2 * 4


def test_what_tritonclient_is_told_when_it_is_wrong(
    answers: tuple[dict[str, Any], dict[str, np.ndarray]],
) -> None:
    said, found = answers
    status, message = said["wrong"]
    assert status == "StatusCode.INVALID_ARGUMENT"
    assert "float32[3, 5], expected float32[batch, 6]" in message
    status, message = said["unknown"]
    assert status == "StatusCode.NOT_FOUND"
    assert message.startswith("Request for unknown model: there is no model 'nobody'")
    assert str(found["stream:error"]).startswith("Request for unknown model")


def test_bfloat16_both_ways(python: Path, tmp_path: Path) -> None:
    config = {
        "family": "networks_of_tests:rounded",
        "inputs": {"x": {"dtype": "bfloat16", "shape": [6]}},
        "outputs": ["y"],
        "buckets": [4],
    }
    save_one(tmp_path / "rounded", {"by": np.float32(1.5)}, config)
    x = batch(3).astype(ml_dtypes.bfloat16)
    np.save(tmp_path / "x.npy", x.astype(np.float32))
    with ServerProcess({"rounded": tmp_path / "rounded"}) as server:
        target = server.until_ready().target
        done = run(python, SCRIPT, target, "rounded", tmp_path / "x.npy", tmp_path / "found.npz", "BF16")
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "found.npz") as found:
        np.testing.assert_array_equal(found["y"].view(ml_dtypes.bfloat16), x * ml_dtypes.bfloat16(1.5), strict=True)


@pytest.mark.parametrize("way", [(), ("--streaming",)])
def test_perf_analyzer(
    analyzer: tuple[Path, dict[str, str]], server: ServerProcess, way: tuple[str, ...], tmp_path: Path
) -> None:
    program, environment = analyzer
    table = tmp_path / "latencies.csv"
    asked = ["-m", "relu", "-u", server.target, "-i", "grpc", "-b", "2", "--concurrency-range=2", *way]
    few = ["--measurement-mode=count_windows", "--measurement-request-count=20", "--max-trials=5"]
    done = run(program, *asked, *few, "--stability-percentage=999", "-f", table, environment=environment)
    assert "Failed" not in done.stdout + done.stderr, done.stdout + done.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    header, row = table.read_text().splitlines()[:2]
    figures = dict(zip(header.split(","), row.split(","), strict=False))
    assert float(figures["Inferences/Second"]) > 0
    assert float(figures["Server Compute Infer"]) > 0
