"""The command `fluoroscope` against a real server, as a person or a script runs it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from .conftest import WIDE_ROWS
from .saved import batch
from .server_process import eventually

if TYPE_CHECKING:
    from pathlib import Path

    import fluoroscope

    from .server_process import ServerProcess

COMMAND = [sys.executable, "-m", "fluoroscope"]


def environment(target: str) -> dict[str, str]:
    return {**os.environ, "FLUOROSCOPE_SERVER": target, "COLUMNS": "200"}


class Terminal:
    """Runs commands against one server, in one folder."""

    def __init__(self, target: str, folder: Path) -> None:
        self._target = target
        self._folder = folder

    def run(self, *words: str, code: int = 0, stdin: bytes = b"") -> tuple[str, str]:
        """Returns what it printed, on standard output and on standard error."""
        run = subprocess.run(
            [*COMMAND, *words],
            input=stdin,
            capture_output=True,
            env=environment(self._target),
            cwd=self._folder,
            timeout=120,
            check=False,
        )
        assert run.returncode == code, run.stderr.decode()
        assert b"Traceback" not in run.stderr
        return run.stdout.decode(), run.stderr.decode()

    def json(self, *words: str, stdin: bytes = b"") -> Any:
        return json.loads(self.run(*words, "--json", stdin=stdin)[0])


@pytest.fixture
def terminal(server: ServerProcess, tmp_path: Path) -> Terminal:
    return Terminal(server.target, tmp_path)


def logits(answer: Any) -> np.ndarray:
    found = answer["outputs"]["logits"]
    array = np.array(found["data"], found["dtype"])
    assert list(array.shape) == found["shape"]
    return array


# --- inputs


def test_predict_takes_arrays_however_they_come(terminal: Terminal, client: fluoroscope.Client, tmp_path: Path) -> None:
    x = batch(2)
    expected = client.predict("relu", {"x": x})["logits"]
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "all.npz", x=x)
    np.savez(tmp_path / "many.npz", this=x, other=np.zeros(3))
    (tmp_path / "x.json").write_text(json.dumps(x.tolist()))
    stdin = io.BytesIO()
    np.save(stdin, x)

    ways = ["x=@x.npy", "@x.npy", "@all.npz", "x=@many.npz:this", "x=@x.json", f"x={json.dumps(x.tolist())}"]
    answers = [logits(terminal.json("predict", "relu", way)) for way in ways]
    answers += [logits(terminal.json("predict", "relu", "x=@-", stdin=stdin.getvalue()))]

    for way, answer in zip([*ways, "stdin"], answers, strict=True):
        assert np.array_equal(answer, expected), way


def test_predict_takes_an_image(terminal: Terminal, client: fluoroscope.Client, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "digit.png")
    expected = client.predict("convolutions", {"image": (pixels[None, ..., None] / np.float32(255))})["logits"]

    out, told = terminal.run("predict", "convolutions", "image=@digit.png", "--json")

    assert np.array_equal(logits(json.loads(out)), expected)
    assert "scaled to 0..1" in told


def test_predict_prints_for_people_and_writes_for_programs(
    terminal: Terminal, client: fluoroscope.Client, tmp_path: Path
) -> None:
    x = batch(1)
    np.save(tmp_path / "x.npy", x)
    printed, _ = terminal.run("predict", "relu", "x=@x.npy")
    assert "logits: float32, 1 x 5" in printed

    terminal.run("predict", "relu", "x=@x.npy", "--output", "logits.npz")
    terminal.run("predict", "relu", "x=@x.npy", "--output", "logits.npy")
    expected = client.predict("relu", {"x": x})["logits"]
    with np.load(tmp_path / "logits.npz") as written:
        assert np.array_equal(written["logits"], expected)
    assert np.array_equal(np.load(tmp_path / "logits.npy"), expected)


def test_predict_with_two_inputs_and_an_output_of_choice(terminal: Terminal) -> None:
    answer = terminal.json("predict", "function", "tokens=[[1, 2, 3]]", "mask=[true]", "--only", "halved")
    assert list(answer["outputs"]) == ["halved"]
    assert answer["outputs"]["halved"]["dtype"] == "bfloat16"
    assert sum(answer["outputs"]["halved"]["data"][0]) == pytest.approx(0.5, abs=0.01)


# --- looking inside


def test_inspect_prints_a_table_of_the_modules(terminal: Terminal) -> None:
    printed, _ = terminal.run("inspect", "relu", f"x={json.dumps(batch(3).tolist())}")
    header, *rows = [line.split() for line in printed.splitlines()]
    assert header == ["site", "kind", "dtype", "shape", "mean", "std", "var", "min", "max", "zeros", "NaN", "Inf"]
    assert [row[0] for row in rows] == ["Dense_0", "Dense_1", "Dense_2", "__call__"]
    assert {tuple(row[1:3]) for row in rows} == {("module", "float32")}


def test_inspect_writes_what_it_saw(terminal: Terminal, client: fluoroscope.Client, tmp_path: Path) -> None:
    x = batch(4)
    np.save(tmp_path / "x.npy", x)
    words = ["inspect", "relu", "x=@x.npy", "activations/*", "--slice", "0:1:3", "--slice", "-1:0:4:2"]

    terminal.run(*words, "--with-output", "logits", "--output", "acts.npz")

    expected = client.inspect("relu", {"x": x}, sites="activations/*")
    with np.load(tmp_path / "acts.npz") as written:
        assert list(written.files) == [*expected, "outputs/logits"]
        for site, each in expected.items():
            assert np.array_equal(written[site], each.array[1:3, 0:4:2])
        assert np.array_equal(written["outputs/logits"], client.predict("relu", {"x": x})["logits"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["acts.npz", "x.npy"]


def test_inspect_keeps_bfloat16_in_its_file(terminal: Terminal, client: fluoroscope.Client, tmp_path: Path) -> None:
    import ml_dtypes

    words = ["inspect", "function", "tokens=[[1, 2, 3]]", "mask=[true]", "weights", "--with-output", "halved"]
    _, told = terminal.run(*words, "--output", "acts.npz")
    inputs = {"tokens": np.array([[1, 2, 3]], np.float32), "mask": np.array([True])}
    expected = client.predict("function", inputs)["halved"]
    with np.load(tmp_path / "acts.npz") as written:
        dtypes = json.loads(written["__dtypes__"].item())
        found = written["outputs/halved"].view(getattr(ml_dtypes, dtypes["outputs/halved"]))
    assert np.array_equal(found, expected)
    assert "bfloat16" in told


def test_inspect_reduces_to_statistics(terminal: Terminal, client: fluoroscope.Client) -> None:
    x = batch(4)
    answer = terminal.json("inspect", "relu", f"x={json.dumps(x.tolist())}", "relu:*", "--reduce", "statistics")
    expected = client.inspect("relu", {"x": x}, sites="relu:*")

    assert (answer["model"], answer["version"], answer["rows"]) == ("relu", 7, 4)
    assert [each["site"] for each in answer["sites"]] == list(expected)
    for each in answer["sites"]:
        value = expected[each["site"]].array
        assert value is not None
        assert "array" not in each
        assert each["statistics"]["zero_fraction"] == pytest.approx((value == 0).mean())
        assert each["statistics"]["mean"] == pytest.approx(value.mean(), rel=1e-5)
    assert answer["program"]["bucket"] == 8
    assert {"queue", "compute"} < answer["stages"].keys()


def test_inspect_gives_whole_values_as_json(terminal: Terminal, client: fluoroscope.Client) -> None:
    x = batch(1)
    answer = terminal.json("inspect", "relu", f"x={json.dumps(x.tolist())}", "Dense_0")
    (found,) = answer["sites"]
    expected = client.inspect("relu", {"x": x}, sites="Dense_0")["Dense_0"].array
    assert np.array_equal(np.array(found["array"]["data"], found["array"]["dtype"]), np.asarray(expected))


def test_sites_are_listed_by_glob_and_kind(terminal: Terminal, client: fluoroscope.Client) -> None:
    printed, _ = terminal.run("sites", "relu", "Dense_*/*", "activations/*", "--kind", "named", "--kind", "equation")
    header, *rows = [line.split() for line in printed.splitlines()]
    paths = [site.path for site in client.sites("relu", "Dense_*/*", "activations/*", kinds=["NAMED", "EQUATION"])]
    assert header[:2] == ["site", "kind"]
    assert [row[0] for row in rows] == paths
    assert {row[1] for row in rows} == {"named", "equation"}
    assert [each["path"] for each in terminal.json("sites", "relu")] == [site.path for site in client.sites("relu")]


def test_models_are_listed_and_described(terminal: Terminal, client: fluoroscope.Client) -> None:
    printed, _ = terminal.run("models")
    assert [line.split()[0] for line in printed.splitlines()] == ["model", *(model.name for model in client.models())]
    described = terminal.json("models", "function")
    assert (described["name"], described["family"], described["state"]) == (
        "function", "networks_of_tests:function", "READY",
    )  # fmt: skip
    assert described["inputs"][1] == {"name": "mask", "dtype": "bool", "shape": [-1]}


# --- how it ends


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["models", "rleu"], 1, "there is no model 'rleu'"),
        (["sites", "rleu"], 1, "there is no model 'rleu'"),
        (["inspect", "relu", "x=[[0, 0, 0, 0, 0, 0]]", "Dence_0"], 1, "there is no site 'Dence_0'; nearest: 'Dense_0'"),
        (["inspect", "relu", "x=[[0, 0, 0, 0, 0, 0]]", "--max-bytes", "10"], 1, "the limit is 10"),
        (["predict", "relu", "x=[[0, 0, 0]]"], 1, "float32[1, 3], expected float32[batch, 6]"),
        (["predict", "relu"], 2, "'x' is missing"),
        (["predict", "relu", "y=[[0]]"], 2, "no input 'y'"),
        (["predict", "relu", "x=@nothing.npy"], 2, "nothing.npy"),
        (["inspect", "relu", "x=[[0, 0, 0, 0, 0, 0]]", "--slice", "0"], 2, "AXIS:START:STOP"),
        (["predicts"], 2, "No such command"),
    ],
)
def test_it_ends_with_a_code_and_says_why(terminal: Terminal, words: list[str], code: int, says: str) -> None:
    out, told = terminal.run(*words, code=code)
    assert out == ""
    assert says in told


@pytest.mark.parametrize("words", [["models"], ["predict", "relu", "x=[[0]]"]])
def test_it_ends_with_3_where_nobody_is(tmp_path: Path, words: list[str]) -> None:
    out, told = Terminal("127.0.0.1:1", tmp_path).run(*words, code=3)
    assert out == ""
    assert "127.0.0.1:1" in told
    assert "Start a server" in told


def test_ctrl_c_in_the_middle_of_a_stream(wide_server: ServerProcess, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", batch(WIDE_ROWS))
    chunks = "fluoroscope_stream_chunks_total"
    before = wide_server.metrics().total(chunks)
    process = subprocess.Popen(
        [*COMMAND, "inspect", "wide", "x=@x.npy", "**", "--output", "acts.npz"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(wide_server.target),
        cwd=tmp_path,
    )
    try:
        eventually(lambda: wide_server.metrics().total(chunks) > before, what="the stream runs")
        process.send_signal(signal.SIGINT)
        out, told = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait(60)
    assert process.returncode == 130, told
    assert out == ""
    assert told.splitlines()[-1] == "Interrupted."
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"], "a file that is not whole is not there"
    wide_server.at_rest()
    assert wide_server.metrics().total(chunks) - before < 576, "it did not send the rest"


def test_a_pipe_that_is_closed_is_no_error(server: ServerProcess) -> None:
    run = subprocess.run(
        f"{sys.executable} -m fluoroscope sites relu --json | head -1",
        shell=True,
        capture_output=True,
        text=True,
        env=environment(server.target),
        timeout=60,
        check=False,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "[\n", "")
