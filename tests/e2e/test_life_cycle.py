"""Starting, refusing to start, loading; and from the first line to the last."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import fluoroscope

from .long_stream import begin_stream
from .saved import base_config, batch, function_config, save_one
from .server_process import ServerProcess, eventually, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .conftest import Saved


def test_what_it_says_from_start_to_end(checkpoints: Saved, tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with serving({"relu": checkpoints.folders["relu"]}, environment={"TMPDIR": str(temporary)}) as server:
        with fluoroscope.Client(server.target) as client:
            client.predict("relu", {"x": batch(1)})
        assert server.stop() == 0

    assert server.lines[0] == (
        f'fluoroscope-server: settings: model = ["relu={checkpoints.folders["relu"]}"] (--model); '
        'listen = "127.0.0.1:0" (--listen); http-listen = "127.0.0.1:0" (--http-listen)'
    )
    lines = [re.sub(r"[\d.]+ s$", "N s", re.sub(r"[0-9a-f]{12}\)", "DIGEST)", line)) for line in server.lines[1:]]
    assert lines == [
        f"fluoroscope-server: gRPC on {server.target}",
        f"fluoroscope-server: metrics on {server.http}/metrics",
        f"fluoroscope-server: loading relu from {checkpoints.folders['relu']}",
        "fluoroscope-server: loaded relu: version 7 (not sealed, DIGEST), 381 parameters, 22 sites, "
        "batches to 8, on cpu, in N s",
        "fluoroscope-server: ready",
        "fluoroscope-server: draining: calls under way have 30 s; signal again to end now",
        "fluoroscope-server: stopped",
    ]
    assert re.fullmatch(r"127\.0\.0\.1:\d+", server.target)
    assert list(temporary.iterdir()) == []
    assert not [path for path in checkpoints.folders["relu"].rglob("*") if "tmp" in path.name]


def test_a_socket_in_the_file_system(checkpoints: Saved, tmp_path: Path) -> None:
    path = tmp_path / "server.sock"
    with serving({"relu": checkpoints.folders["relu"]}, listen=f"unix:{path}") as server:
        assert server.target == f"unix:{path}"
        with fluoroscope.Client(server.target) as client:
            assert client.predict("relu", {"x": batch(2)})["logits"].shape == (2, 5)
        assert server.stop() == 0
    assert not path.exists()


# --- what it will not start with


def refused(models: dict[str, Path | str], *, code: int = 1, **settings: Any) -> str:
    """Returns what a server says that does not start: one paragraph for a person, after what it began."""
    with ServerProcess(models, **settings) as server:
        assert server.wait(120) == code, server.said
    said = server.said
    assert "Traceback" not in said
    assert ("\n\n" in said) == (code == 2), "a blank line stands behind how the command is used, and nowhere else"
    return said.rpartition("\nError: ")[2].removeprefix("Error: ")


@pytest.mark.parametrize("which", ["listen", "http_listen"])
def test_a_port_that_is_taken(checkpoints: Saved, which: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        where: dict[str, Any] = {which: address}
        said = refused({"relu": checkpoints.folders["relu"]}, **where)
    assert said.startswith(f"cannot listen on {address}: ")
    assert said.endswith("is another server there?")
    assert "GRPC_VERBOSITY" not in said
    assert len(said.splitlines()) == 1


def test_what_it_refuses_is_json_where_the_log_is(tmp_path: Path) -> None:
    with ServerProcess({"relu": tmp_path / "nothing"}, "--log-format=json") as server:
        assert server.wait() == 1
    last = [json.loads(line) for line in server.lines][-1]
    assert last["level"] == "error"
    assert "there is no such folder" in last["message"]


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1:99999"])
def test_an_address_that_is_none(checkpoints: Saved, address: str) -> None:
    assert address in refused({"relu": checkpoints.folders["relu"]}, http_listen=address)


@pytest.mark.parametrize(
    ("name", "path", "says"),
    [
        ("relu", "", "is not NAME=PATH"),
        ("", "/tmp", "is not NAME=PATH"),
        ("a/b", "/tmp", "may hold letters, digits"),
        ("relu", "{tmp}/nothing", "there is no such folder"),
        ("relu", "{tmp}", "is an empty folder"),
        ("relu", "{relu},family=base_networks", "no builtin family 'base_networks'"),
        (
            "relu",
            "{relu},family=not_there:build",
            "family 'not_there:build' cannot be imported: ModuleNotFoundError: No module named",
        ),
        ("relu", "{relu},family=json:dumps", "returned a str"),
    ],
)
def test_a_model_that_cannot_be(checkpoints: Saved, tmp_path: Path, name: str, path: str, says: str) -> None:
    place = path.format(tmp=tmp_path, relu=checkpoints.folders["relu"])
    wrong_setting = says.startswith(("is not", "may hold"))
    assert says in refused({name: place}, code=2 if wrong_setting else 1)


def test_weights_of_another_network(checkpoints: Saved, tmp_path: Path) -> None:
    config = base_config("relu", (16, 13), 5, (1,)) | {"buckets": [1]}
    folder = save_one(tmp_path / "other", checkpoints.base["relu"], config)
    said = refused({"other": folder})
    assert "params/Dense_1/kernel" in said
    assert "float32[16, 12]" in said
    assert "float32[16, 13]" in said


# --- loading


@pytest.fixture
def slow(checkpoints: Saved, tmp_path: Path) -> Path:
    """A model that, once `arrived` is there beside it, is loaded no further before `gate` is."""
    gates = {name: str(tmp_path / name) for name in ("gate", "arrived")}
    config = function_config() | {"family": "networks_of_tests:gated", "config": gates}
    return save_one(tmp_path / "slow", checkpoints.function, config)


@contextmanager
def loading(slow: Path, **others: Path) -> Iterator[ServerProcess]:
    """Gives a server that has loaded the others, and is at the slow one."""
    with ServerProcess({**others, "slow": slow}) as server:
        eventually((slow.parent / "arrived").exists, what="the slow model is being loaded", timeout=120)
        yield server


def test_requests_while_a_model_is_being_loaded(checkpoints: Saved, slow: Path) -> None:
    inputs = {"tokens": batch(2, 3), "mask": np.array([True, False])}
    with ExitStack() as stack:
        server = stack.enter_context(loading(slow, first=checkpoints.folders["relu"]))
        client = stack.enter_context(fluoroscope.Client(server.target, retries=0))

        assert server.get("/healthz") == (200, "ok\n")
        assert server.get("/readyz") == (503, "not ready: loading models, or draining\n")
        for ask in (
            lambda: client.predict("slow", inputs),
            lambda: client.inspect("slow", inputs, sites="**"),
            lambda: client.sites("slow"),
            lambda: client.model("slow"),
        ):
            with pytest.raises(fluoroscope.ServerUnavailableError, match="still being loaded") as refused:
                ask()
            assert refused.value.reason == "MODEL_LOADING"
            assert not isinstance(refused.value, fluoroscope.ConnectionFailedError)
        assert {model.name: model.state for model in client.models()} == {
            "first": fluoroscope.ModelState.READY,
            "slow": fluoroscope.ModelState.LOADING,
        }
        assert client.predict("first", {"x": batch(1)})["logits"].shape == (1, 5), "the first is there already"
        with pytest.raises(fluoroscope.DeadlineExceededError):
            client.wait_ready(timeout=0.2)

        channel = stack.enter_context(grpc.insecure_channel(server.target))
        health: Any = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=60)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        (slow.parent / "gate").touch()
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        client.wait_ready("slow", timeout=60)
        server.until_ready()
        assert server.get("/readyz") == (200, "ready\n")
        assert client.predict("slow", inputs)["weights"].shape == (2, 7)
        watch.cancel()
        assert server.stop() == 0


def test_one_who_stops_waiting_leaves_the_others_waiting(slow: Path) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(loading(slow))
        channel = stack.enter_context(grpc.insecure_channel(server.target))
        health: Any = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=8)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        client = stack.enter_context(fluoroscope.Client(server.target))
        with pytest.raises(fluoroscope.DeadlineExceededError):
            client.wait_ready(timeout=0.2)
        (slow.parent / "gate").touch()
        server.until_ready()
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING


def test_a_signal_while_loading_ends_it(slow: Path) -> None:
    with loading(slow) as server:
        server.signal(signal.SIGTERM)
        assert server.wait(30) == 0
        assert "Traceback" not in server.said
        assert server.lines[-1] == "fluoroscope-server: stopped"
        assert "fluoroscope-server: ready" not in server.lines


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_signal_before_it_listens_ends_it_at_once(slow: Path, number: signal.Signals, form: str) -> None:
    with ServerProcess({"slow": slow}, f"--log-format={form}") as server:
        server.hears("settings: ")  # what comes next is imported for seconds
        server.signal(number)
        assert server.wait(30) == 0
        assert len(server.lines) == 2
        assert (json.loads(server.lines[1])["message"] if form == "json" else server.lines[1]).endswith("stopped")


def test_nohup_lets_it_live_on_without_its_terminal(slow: Path) -> None:
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        server = ServerProcess({"slow": slow})
    finally:
        signal.signal(signal.SIGHUP, ignored)
    with server:
        server.hears("settings: ")
        server.signal(signal.SIGHUP)
        eventually((slow.parent / "arrived").exists, what="it goes on", timeout=120)
        assert server.stop() == 0


def test_a_signal_while_loading_lets_calls_end(slow: Path, wide_variables: tuple[Path, Any]) -> None:
    """Those to models that are there already; nobody waits for the one that is being loaded."""
    with loading(slow, a=wide_variables[0]) as server, fluoroscope.Client(server.target) as client:
        stream, sites = begin_stream(client, "a")
        server.signal(signal.SIGTERM)
        server.hears("draining: calls under way have 30 s")
        sites += [each.site for each in stream]
        assert len(sites) == 11
        assert server.wait(30) == 0


def test_a_load_that_never_ends_does_not_keep_the_server(slow: Path, checkpoints: Saved, tmp_path: Path) -> None:
    """It was begun while the server served, for a new step."""
    models = tmp_path / "models"
    models.mkdir()
    with ServerProcess({"relu": checkpoints.folders["relu"]}, f"--repository={models}", "--poll=0.1") as server:
        server.until_ready()
        slow.rename(models / "slow")
        eventually((tmp_path / "arrived").exists, what="the slow model is being loaded", timeout=120)
        server.signal(signal.SIGTERM)
        assert server.wait(30) == 0
        assert server.lines[-1] == "fluoroscope-server: stopped"


# --- help


@pytest.mark.parametrize("words", [["--help"], ["serve", "--help"], ["--version"]])
def test_help(words: list[str]) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "fluoroscope_server", *words],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "COLUMNS": "200"},
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert "fluoroscope" in run.stdout
