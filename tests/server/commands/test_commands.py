"""`seal` and `check` as people and scripts run them."""

from __future__ import annotations

import json
import subprocess
import sys
from inspect import signature
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from fluoroscope_server.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the commands set is set for this test only."""
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")


@pytest.fixture
def run(tmp_path: Path, save: Callable[..., Path], variables: Any, model_config: dict[str, Any]) -> Path:
    """A series of one step, not sealed."""
    path = tmp_path / "repository" / "digits"
    path.mkdir(parents=True)
    save(path / "20", variables, {**model_config, "buckets": [1]})
    return path


# click 8.1 mixes standard output and error unless it is told not to, and 8.2 never does.
APART: dict[str, Any] = {"mix_stderr": False} if "mix_stderr" in signature(CliRunner).parameters else {}


def invoke(*arguments: object) -> Result:
    return CliRunner(**APART).invoke(main, list(map(str, arguments)))


def test_seal_then_check(run: Path) -> None:
    sealed = invoke("seal", run)
    assert sealed.exit_code == 0, sealed.output
    digest = json.loads((run / "20.fluoroscope.json").read_text())["digest"]
    assert sealed.stdout.startswith(f"checkpoint '{run}', step 20: sealed, ")
    assert sealed.stdout.endswith(f" bytes, {digest}\n")
    again = invoke("seal", run)
    assert (again.exit_code, again.stdout, again.stderr) == (0, "", f"{run}: every committed step is sealed already\n")
    assert "step 20: was sealed already, and is whole, " in invoke("seal", run, 20).stdout
    checked = invoke("check", run, "--require-seal")
    assert (checked.exit_code, checked.stdout, checked.stderr) == (0, "", "1 model, 1 step: 0 errors, 0 notes\n")


def test_a_folder_of_models_is_nothing_to_seal(run: Path) -> None:
    """And it is not said to be sealed already."""
    sealed = invoke("seal", run.parent)
    assert (sealed.exit_code, sealed.stdout) == (1, "")
    assert "is not a checkpoint, but folders in it are; give one of them: digits" in sealed.stderr
    (run.parent / "empty").mkdir()
    assert invoke("seal", run.parent / "empty").exit_code == 1


def test_a_damaged_step(run: Path) -> None:
    invoke("seal", run)
    (run / "20" / "more").write_text("")
    words = f"checkpoint '{run}', step 20 is not what was sealed: file 'more' was not there. Copy it again, or serve"
    sealed = invoke("seal", run, 20)
    assert (sealed.exit_code, sealed.stderr.startswith(f"Error: {words}")) == (1, True)
    checked = invoke("check", run)
    assert (checked.exit_code, checked.stdout.count("\n")) == (1, 1)
    assert checked.stdout.startswith(f"error DAMAGED: {run}, step 20: {words}")


def test_a_repository_is_checked_as_it_is_served(run: Path) -> None:
    (run.parent / "empty").mkdir()
    result = invoke("check", "--repository", run.parent)
    assert result.exit_code == 0, result.output
    assert f"note LEFTOVER: {run.parent / 'empty'} is passed over: it holds neither" in result.output
    run.rename(run.parent / "a b")
    result = invoke("check", "--repository", run.parent)
    assert result.exit_code == 1
    assert f"error BAD_NAME: {run.parent / 'a b'} is left out: model name 'a b' may hold letters" in result.output


def test_findings_for_programs(run: Path) -> None:
    (run / "30").mkdir()
    for name in ("_aside", ".hidden"):  # neither does the server look there
        (run.parent / name).mkdir()
    result = invoke("check", "--repository", run.parent, "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == 0, "notes are no errors"
    assert document["models"] == [{"path": str(run), "steps": [20]}]
    assert [(each["path"], each["step"], each["reason"], each["is_error"]) for each in document["findings"]] == [
        (str(run), None, "LEFTOVER", False),
        (str(run), 20, "UNSEALED", False),
    ]
    assert invoke("check", "--repository", run.parent, "--require-seal").exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check"], "Name a PATH, or a --repository."),
        (["check", "nowhere"], "Directory 'nowhere' does not exist."),
        (["check", "--repository", "."], ". holds no folder with a model"),
        (["seal", "nowhere"], "Directory 'nowhere' does not exist."),
        (["seal", ".", "x"], "'x' is not a valid integer"),
    ],
)
def test_what_cannot_be_checked(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke(*arguments)
    assert (result.exit_code, words in result.stderr) == (2, True), result.output


def test_the_accelerator_is_left_alone(run: Path) -> None:
    """A process of its own: what JAX runs on is decided once."""
    code = (
        "import os; os.environ.pop('JAX_PLATFORMS', None)\n"
        "from fluoroscope_server.cli import main\n"
        f"main(['check', {str(run)!r}, '--deep'], standalone_mode=False)\n"
        "import jax; print(os.environ['JAX_PLATFORMS'], jax.default_backend())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "cpu cpu"
