"""A repository of models, as operators and trainers change it while clients are being served."""

from __future__ import annotations

import shutil
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner

import fluoroscope
from fluoroscope.cli import main

from . import saved
from .server_process import ServerProcess, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

X = np.ones((1, saved.FEATURES), np.float32)


def save(model: Path, step: int) -> None:
    """Saves a step of a network that answers its number."""
    variables = {
        "params": {
            "Dense_0": {"kernel": np.zeros((saved.FEATURES, 2), np.float32), "bias": np.zeros(2, np.float32)},
            "Dense_1": {"kernel": np.zeros((2, 3), np.float32), "bias": np.full(3, step, np.float32)},
        }
    }
    saved.save_series(model, variables, saved.base_config("relu", (2,), 3, (1, 4)), step=step)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A repository with one model, `digits`, of which step 10 is there."""
    save(tmp_path / "models" / "digits", 10)
    return tmp_path / "models"


@pytest.fixture
def server(models: Path) -> Iterator[ServerProcess]:
    """A server of the repository, and of the model `solo` outside of it, with step 1."""
    save(models.parent / "solo", 1)
    options = (f"--repository={models}", "--watch", "--poll=0.1")
    with ServerProcess({"solo": models.parent / "solo"}, *options) as process:
        yield process.until_ready()
        assert process.stop() == 0, process.said
        assert "internal error" not in process.said, process.said


def answer(client: fluoroscope.Client, **selector: object) -> int:
    return int(client.predict("digits", {"x": X}, **selector)["logits"][0, 0])  # type: ignore[arg-type]  # one of two


def test_a_trainer_and_an_operator(server: ServerProcess, models: Path) -> None:
    digits = models / "digits"
    with fluoroscope.Client(server.target) as client:
        assert answer(client) == 10
        client.set_label("digits", "stable", 10)
        ended = threading.Event()
        seen: list[int] = []
        failures: list[Exception] = []

        def ask() -> None:
            with fluoroscope.Client(server.target) as own:
                while not ended.is_set():
                    try:
                        seen.append(answer(own))
                    except fluoroscope.FluoroscopeError as error:
                        failures.append(error)

        asking = [threading.Thread(target=ask) for _ in range(4)]
        for thread in asking:
            thread.start()
        try:
            for step in (20, 30):
                save(digits, step)
                server.hears(f"loaded digits: version {step} ")
                eventually(lambda step=step: step in seen, what=f"version {step} answers")  # type: ignore[misc]  # a default
            server.hears("unloaded digits: version 20")
        finally:
            ended.set()
            for thread in asking:
                thread.join()
        assert failures == []
        assert set(seen) == {10, 20, 30}

        assert (answer(client, label="stable"), answer(client, version=10), answer(client)) == (10, 10, 30)
        assert client.inspect("digits", {"x": X}, sites="Dense_1", label="stable")["Dense_1"].array[0, 0] == 10
        assert client.parameters("digits", "**/Dense_1/bias", label="stable").version == 10
        with pytest.raises(fluoroscope.NotFoundError, match="has no version 20; it has 10, 30 loaded"):
            answer(client, version=20)
        assert client.load_model("digits", version=20).labels == {"stable": 10}
        assert [each.version for each in client.model("digits").versions] == [10, 20, 30]
        with pytest.raises(fluoroscope.WrongStateError, match="version 10 is 'stable'"):
            client.unload_model("digits", version=10)
        client.set_label("digits", "stable", 30)
        server.hears("unloaded digits: version 10")
        client.unload_model("digits", version=30, force=True)
        assert answer(client) == 20


def test_a_client_that_stops_reading_does_not_hold_up_a_new_version(
    wide_variables: tuple[Path, Any], tmp_path: Path
) -> None:
    """The version that it looked into is freed, and other versions are loaded, while its stream stands still."""
    first = wide_variables[0] / str(saved.STEP)
    wide = tmp_path / "models" / "wide"
    shutil.copytree(first, wide / "1")
    options = (f"--repository={tmp_path / 'models'}", "--watch", "--poll=0.1", "--grace=1")
    with (
        ServerProcess({}, *options) as server,
        fluoroscope.Client(server.until_ready().target) as client,
        fluoroscope.Client(server.target) as other,
    ):
        stream = client.stream("wide", {"x": saved.batch(256)}, sites="activations/*")
        next(stream)
        for step in (2, 3):
            shutil.copytree(first, tmp_path / "copy")
            (tmp_path / "copy").rename(wide / str(step))
            server.hears(f"loaded wide: version {step} ")
        server.hears("a call was ended that held up version 1 of wide, which was unloaded")
        server.hears("unloaded wide: version 1")
        assert [each.version for each in other.model("wide").versions] == [3]
        with pytest.raises(fluoroscope.ServerUnavailableError, match="the version that answered was unloaded") as ended:
            list(stream)
        assert ended.value.reason == "VERSION_UNLOADED"
        ending = server.hears(r"InspectActivations code=UNAVAILABLE .*request_id=(\w+) .*reason=VERSION_UNLOADED")
        assert ended.value.request_id == ending[1]
        handled = {"grpc_method": "InspectActivations", "grpc_code": "UNAVAILABLE"}
        assert server.metrics().total("grpc_server_handled_total", **handled) == 1
        assert server.said.count("a call was ended") == 1
        assert server.stop() == 0


def test_a_broken_step_and_the_command_line(server: ServerProcess, models: Path) -> None:
    def run(*words: str) -> str:
        result = CliRunner().invoke(main, [*words, "--server", server.target])
        assert result.exit_code == 0, result.output
        return result.output

    save(models / "broken", 40)
    shutil.rmtree(models / "broken" / "40" / "state" / "d")
    (models / "broken" / "40").rename(models / "digits" / "40")
    server.hears("refused version 40 of digits: .*; version 10 goes on serving")
    table = run("models")
    assert "digits       10  ready" in table
    assert "digits       40  failed" in table
    assert str(models) not in table
    metrics = server.metrics()
    assert metrics.total("fluoroscope_refused_checkpoints_total", model="digits", reason="UNREADABLE") == 1
    assert metrics.total("fluoroscope_model_serving_version", model="digits") == 10
    refused = CliRunner().invoke(main, ["load", "digits", "40", "--server", server.target])
    assert (refused.exit_code, "the step is refused" in refused.output) == (1, True)

    save(models.parent / "solo", 2)
    server.hears("loaded solo: version 2 ")
    save(models / "letters", 7)
    server.hears("loaded letters: version 7")
    assert "stable" in run("label", "letters", "stable", "7")
    assert "letters" in run("models", "letters", "--label", "stable")
    assert "params/Dense_1/bias" in run("params", "letters", "--label", "stable")
    run("unload", "letters", "--force")
    assert "unloaded" in run("models")
    assert "letters" in run("load", "letters")
    shutil.rmtree(models / "letters")
    server.hears("removed letters: its folder is gone")
    eventually(lambda: "letters" not in run("models"), what="letters is not listed")
