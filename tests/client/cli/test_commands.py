from __future__ import annotations

import json
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np
import pytest

from fluoroscope.calls import Model
from fluoroscope.cli.archive import read_archive
from fluoroscope.cli.models import print_models
from fluoroscope.v1 import inspection_pb2, model_pb2

if TYPE_CHECKING:
    from pathlib import Path

    from tests.client.cli.conftest import Run
    from tests.client.fake_server import FakeServer

X = "image=[[[1],[-2]],[[3],[0.5]]]"
FLAT = np.array([[1, -2, 3, 0.5]], np.float32)


def words(line: str) -> list[str]:
    return line.split()


def test_predict_for_people(run: Run) -> None:
    result = run("predict", "digits", X)

    assert result.exit_code == 0
    assert result.stdout == "logits: float32, 1 x 2\n[[ 2. -4.]]\n"
    assert result.stderr == ""


def test_predict_for_programs(run: Run, server: FakeServer) -> None:
    answer = json.loads(run("predict", "digits", X, "--json", "--version", "100", "--only", "logits").stdout)

    assert answer == {
        "model": "digits",
        "outputs": {"logits": {"dtype": "float32", "shape": [1, 2], "data": [[2.0, -4.0]]}},
    }
    assert (server.requests[-1].version, list(server.requests[-1].outputs)) == (100, ["logits"])


def test_predict_into_a_file(run: Run, tmp_path: Path) -> None:
    result = run("predict", "digits", X, "-o", str(tmp_path / "logits.npy"))

    assert (result.exit_code, result.stdout) == (0, "")
    assert np.array_equal(np.load(tmp_path / "logits.npy"), FLAT[:, :2] * 2)


def test_inspect_for_people(run: Run, server: FakeServer) -> None:
    result = run("inspect", "digits", X)
    header, *rows = result.stdout.splitlines()

    assert result.exit_code == 0
    assert words(header) == words("site kind dtype shape mean std var min max zeros NaN Inf")
    assert words(rows[1]) == words("Dense_0/relu:0 equation bfloat16 1 x 4 1.125 1.139 1.297 0 3 25.0% 0 0")
    assert [words(row)[0] for row in rows] == ["Dense_0", "Dense_0/relu:0", "head"]
    capture = server.requests[-1].captures[0]
    assert (list(capture.sites), list(capture.kinds)) == (["**"], [1])


def test_inspect_asks_for_what_the_words_say(run: Run, server: FakeServer) -> None:
    result = run(
        *words("inspect digits Dense_* --sites head --kind Named --kind equation --slice 0:0:1 --slice -1::8:2"),
        *words("--reduce statistics --reduce full --with-output logits --max-bytes 99 --version 100"),
        X,
    )
    request = server.requests[-1]
    capture = request.captures[0]

    assert result.exit_code == 0
    assert list(capture.sites) == ["head", "Dense_*"]
    assert list(capture.kinds) == [2, 3]
    assert [(cut.axis, cut.start, cut.stop, cut.step) for cut in capture.slices] == [(0, 0, 1, 0), (-1, 0, 8, 2)]
    assert [each.WhichOneof("reduction") for each in capture.reductions] == ["statistics", "full"]
    assert (list(request.outputs), request.max_bytes, request.version) == (["logits"], 99, 100)
    assert words(result.stdout.splitlines()[-1])[:3] == ["logits", "output", "float32"]


def test_numbers_that_no_request_has_room_for(run: Run) -> None:
    rows = run("plan", "digits", "**", "--rows", "99999999999999999999")
    assert (rows.exit_code, rows.stdout) == (2, "")
    assert rows.stderr.startswith("Error: rows is 99999999999999999999; expected a whole number from 0 to ")
    most = run("inspect", "digits", X, "--max-bytes", "0")
    assert (most.exit_code, most.stdout) == (2, "")
    assert most.stderr.startswith("Error: max_bytes is 0; expected a whole number from 1 to ")


def test_inspect_for_programs(run: Run) -> None:
    answer = json.loads(run("inspect", "digits", X, "**", "--json", "--reduce", "full").stdout)

    assert (answer["model"], answer["version"], answer["rows"]) == ("digits", 100, 1)
    program = {"compiled": True, "compile_seconds": 0.25, "bucket": 8, "stages": 3, "flops": 1500.0}
    assert answer["program"] == {**program, "flops_fraction": 0.75}
    assert answer["stages"] == {"compute": 0.125}
    assert answer["sites"][1] == {
        "site": "Dense_0/relu:0",
        "kind": "EQUATION",
        "dtype": "bfloat16",
        "shape": [1, 4],
        "array": {"dtype": "bfloat16", "shape": [1, 4], "data": [[1.0, 0.0, 3.0, 0.5]]},
    }


def test_statistics_for_programs(run: Run) -> None:
    answer = json.loads(run("inspect", "digits", X, "**", "--json", "--reduce", "statistics").stdout)
    statistics = answer["sites"][2]["statistics"]

    assert "array" not in answer["sites"][2]
    assert (statistics["count"], statistics["min"], statistics["max"]) == (2, -4.0, 2.0)
    assert (statistics["var"], statistics["zero_fraction"]) == (9.0, 0.0)


def test_inspect_into_a_file(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "acts.npz"
    result = run("inspect", "digits", X, "**", "--with-output", "logits", "--output", str(path))

    assert result.exit_code == 0
    assert "NumPy's files have no bfloat16; 1 arrays are stored as unsigned integers" in result.stderr
    with np.load(path, allow_pickle=False) as stored:
        assert set(stored.files) == {"Dense_0", "Dense_0/relu:0", "head", "outputs/logits", "__dtypes__"}
        assert np.array_equal(stored["Dense_0"], FLAT - 1)
        dtypes = json.loads(stored["__dtypes__"].item())
        relu = stored["Dense_0/relu:0"].view(getattr(ml_dtypes, dtypes["Dense_0/relu:0"]))
    with path.open("rb") as file:
        assert read_archive(file)["Dense_0/relu:0"].dtype == relu.dtype
    assert np.array_equal(relu.astype(np.float32), np.maximum(FLAT, 0))


@pytest.mark.parametrize("name", ["acts.npz", "acts.npy"])
def test_a_file_is_written_whole_or_not_at_all(run: Run, server: FakeServer, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"the one before")
    server.break_stream = lambda messages: messages[:3]
    result = run("inspect", "digits", X, "**", "--output", str(path))

    assert result.exit_code == 4
    assert "missing from site 'Dense_0/relu:0'" in result.stderr
    assert path.read_bytes() == b"the one before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("acts.txt", "the name must end in .npz, or in .npy for a single array"),
        ("none/acts.npz", "No such file or directory"),
        ("acts.npy", "Dense_0/relu:0, ...: write .npz"),
    ],
)
def test_a_file_that_cannot_be(run: Run, tmp_path: Path, name: str, text: str) -> None:
    result = run("inspect", "digits", X, "**", "--output", str(tmp_path / name))

    assert result.exit_code == 2
    assert text in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_statistics_are_not_for_files(run: Run) -> None:
    result = run("inspect", "digits", X, "--reduce", "statistics", "--output", "acts.npz")

    assert result.exit_code == 2
    assert "--json prints statistics" in result.stderr


@pytest.mark.parametrize("word", ["0", "a:0:1", "0:1", "0:0:1:1:1", f"0:0:{2**70}", f"{2**40}:0:1", "0:x:"])
def test_a_slice_that_is_none(run: Run, word: str) -> None:
    result = run("inspect", "digits", X, "--slice", word)

    assert result.exit_code == 2
    assert "is not AXIS:START:STOP" in result.stderr


@pytest.mark.parametrize("option", ["--version", "--max-bytes"])
@pytest.mark.parametrize("number", ["-1", str(2**63)])
def test_numbers_that_the_contract_has_no_room_for(run: Run, option: str, number: str) -> None:
    result = run("inspect", "digits", X, option, number)

    assert result.exit_code == 2
    assert "is not from 0 to 2**63 - 1" in result.stderr


def test_sites_for_people(run: Run, server: FakeServer) -> None:
    result = run("sites", "digits", "Dense_*", "loop/**")
    lines = result.stdout.splitlines()

    assert words(lines[2]) == words("Dense_0/relu:0 equation bfloat16 batch x 4 8 B 50.0%")
    assert lines[3].rstrip().endswith("0.0%  it is int1")
    assert "None" not in result.stdout
    assert list(server.requests[-1].globs) == ["Dense_*", "loop/**"]


@pytest.mark.parametrize("command", ["inspect", "compare", "plan"])
def test_parameters_have_a_command_of_their_own(run: Run, command: str) -> None:
    result = run(command, "digits", "--kind", "parameter")

    assert result.exit_code == 2
    assert "'parameter' is not one of 'module'" in result.stderr
    assert "there is `fluoroscope params`" in " ".join(run(command, "--help").stdout.split())
    assert run("sites", "digits", "--kind", "parameter").exit_code == 0


def test_no_site_is_said_to_people(run: Run) -> None:
    result = run("sites", "digits", "--kind", "input")

    assert (result.exit_code, result.stdout) == (0, "")
    assert "No site of digits is that; `fluoroscope sites digits` lists them." in result.stderr
    assert json.loads(run("sites", "digits", "--kind", "input", "--json").stdout) == []


def test_the_reason_column_is_there_only_when_a_site_has_one(run: Run) -> None:
    assert "not capturable" in run("sites", "digits").stdout
    assert "not capturable" not in run("sites", "digits", "--kind", "module").stdout


def test_sites_for_programs(run: Run) -> None:
    answer = json.loads(run("--json", "sites", "digits").stdout)

    assert answer[1] == {
        "path": "Dense_0/relu:0",
        "kind": "EQUATION",
        "dtype": "bfloat16",
        "shape": [-1, 4],
        "bytes_per_example": 8,
        "not_capturable_reason": "",
        "flops_fraction": 0.5,
    }


def test_what_is_not_known_of_a_model_is_not_shown_as_nothing(run: Run) -> None:
    """Of one that is not loaded, or to whoever may not look inside."""
    result = run("models", "pair")
    assert [words(line)[0] for line in result.stdout.splitlines()] == [
        "model", "version", "state", "input", "input", "batch", "device", "loaded",
    ]  # fmt: skip


def test_models(run: Run) -> None:
    result = run("models")

    header, serving, refused, alone = result.stdout.splitlines()
    assert words(header) == words("model version state labels family parameters inputs outputs why")
    assert words(serving)[:6] == ["digits", "100", "ready", "stable", "base_network", "1,234"]
    assert words(refused) == words("digits 200 failed a flipped bit")
    assert words(alone)[:3] == ["pair", "0", "failed"]
    assert "tokens: int32[batch, 3], mask: bool[batch, 3]" in result.stdout
    assert [model["name"] for model in json.loads(run("models", "--json").stdout)] == ["digits", "pair"]


def test_a_model_with_nothing_loaded_has_no_version(capsys: pytest.CaptureFixture[str]) -> None:
    away = model_pb2.Model(name="away", state=model_pb2.MODEL_STATE_UNLOADED, state_reason="was unloaded")
    print_models([Model.from_wire(away)])
    assert words(capsys.readouterr().out.splitlines()[1]) == words("away unloaded was unloaded")


def test_no_models(run: Run, server: FakeServer) -> None:
    server.models = []
    result = run("models")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "This server has no models" in result.stderr
    assert json.loads(run("models", "--json").stdout) == []


def test_one_model(run: Run) -> None:
    result = run("models", "pair")

    assert "failed: no checkpoint" in result.stdout
    about = run("models", "digits", "--label", "stable").stdout
    assert "ready (stable)" in about
    assert "failed: a flipped bit" in about
    assert "image: float32[batch, 2, 2, 1]" in run("models", "digits").stdout
    assert f"checkpoint   {'5eed' * 16} (sealed)" in run("models", "digits").stdout
    assert json.loads(run("models", "digits", "--json").stdout)["inputs"][0]["shape"] == [-1, 2, 2, 1]


def test_a_version_without_a_model(run: Run) -> None:
    assert run("models", "--version", "3").exit_code == 2
    assert run("models", "--label", "stable").exit_code == 2


def test_plan_for_people(run: Run, server: FakeServer) -> None:
    result = run("plan", "digits", "Dense_*", "--rows", "2", "--execution", "staged", "--with-output", "logits")

    (request,) = server.requests
    assert (request.rows, request.compile) == (2, False)
    assert request.inspection.execution == inspection_pb2.EXECUTION_STAGED
    assert list(request.inspection.captures[0].sites) == ["Dense_*"]
    lines = result.stdout.splitlines()
    assert words(lines[1]) == words("Dense_0 module 2 x 4 32 B")
    assert words(lines[2]) == words("logits output 2 x 2 16 B")
    assert lines[3] == "48 B of tensors, in 3 stages; 1.5e+03 FLOPs, 75.0% of the network, as a batch of 8"
    assert lines[4] == "the program is not compiled yet"


def test_plan_of_what_is_not_allowed(run: Run) -> None:
    lines = run("plan", "digits", "--compile", "--max-bytes", "10").stdout.splitlines()

    assert lines[-2] == "the program is held; it takes up to 4.0 KiB beside its inputs"
    assert lines[-1] == "not allowed: too large"


def test_plan_for_programs(run: Run) -> None:
    answer = json.loads(run("plan", "digits", "--json").stdout)

    assert (answer["bytes"], answer["program"]["stages"], answer["held"]) == (48, 3, False)
    assert answer["results"][0]["site"] == "Dense_0"


def test_what_serves_is_changed(run: Run, server: FakeServer) -> None:
    assert words(run("load", "digits").stdout.splitlines()[1])[:4] == ["digits", "100", "ready", "stable"]
    assert json.loads(run("load", "digits", "300", "--json").stdout)["labels"] == {"stable": 100}
    run("unload", "digits", "200", "--force")
    run("label", "digits", "canary", "0")
    run("label", "digits", "canary", "--clear")

    newest, step, unload, label, cleared = server.requests
    assert (newest.model, newest.HasField("version"), step.version) == ("digits", False, 300)
    assert (unload.version, unload.force) == (200, True)
    assert (label.label, label.HasField("version"), label.version) == ("canary", True, 0)
    assert (cleared.label, cleared.HasField("version")) == ("canary", False)


@pytest.mark.parametrize("arguments", ["label digits canary", "label digits canary 3 --clear", "load digits -1"])
def test_changes_that_say_nothing(run: Run, arguments: str) -> None:
    assert run(*words(arguments)).exit_code == 2


@pytest.mark.parametrize("command", ["predict", "inspect", "plan", "sites", "models"])
def test_a_label_in_place_of_a_version(run: Run, server: FakeServer, command: str) -> None:
    inputs = [X] if command in {"predict", "inspect"} else []
    assert run(command, "digits", *inputs, "--label", "stable").exit_code == 0
    asked = server.requests[-1]
    assert (asked.inspection if command == "plan" else asked).label == "stable"
    assert run(command, "digits", *inputs, "--label", "stable", "--version", "100").exit_code == 2
