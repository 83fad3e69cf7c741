"""Checking: what loading would refuse is found, step by step, and nothing else is called an error."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
import pytest

from fluoroscope_server.checkpoints import seal
from fluoroscope_server.serving.checking import check_model, models_in

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fluoroscope_server.serving.checking import Report


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, variables: Any, model_config: dict[str, Any]) -> Path:
    """A series with a step of every kind; only the first two are sealed."""
    path = tmp_path_factory.mktemp("checking") / "run"
    config = {**model_config, "buckets": [1]}
    large = jax.tree.map(lambda leaf: leaf * 1e30, variables)
    infinite = jax.tree.map(lambda leaf: leaf * jnp.inf, variables)
    steps = {
        10: (variables, config),
        20: (variables, config),  # damaged below
        30: (large, config),
        40: (infinite, config),
        50: ({"params": {"x": jnp.zeros(3)}}, config),
        60: (variables, {**config, "bukets": [1]}),
    }
    with ocp.CheckpointManager(path) as manager:
        for step, (tree, said) in steps.items():
            manager.save(
                step, args=ocp.args.Composite(state=ocp.args.StandardSave(tree), config=ocp.args.JsonSave(said))
            )
    for step in (10, 20):
        seal(path, step)
    with (path / "20" / "config" / "metadata").open("a") as file:
        file.write(" ")
    shutil.copytree(path / "10", path / "70.orbax-checkpoint-tmp-3")
    (path / "80").mkdir()
    shutil.copy(path / "10.fluoroscope.json", path / "5.fluoroscope.json")
    return path


def reasons(report: Report, *, errors: bool) -> list[tuple[int | None, str]]:
    return [(each.step, each.reason) for each in report.findings if each.is_error == errors]


def test_every_kind_of_finding(run: Path) -> None:
    report = check_model(run)
    assert report.steps == [10, 20, 30, 40, 50, 60]
    assert reasons(report, errors=True) == [(20, "DAMAGED"), (50, "MISMATCH"), (60, "CONFIG")]
    leftovers = [(None, "LEFTOVER")] * 3
    assert reasons(report, errors=False) == [*leftovers, *((step, "UNSEALED") for step in (30, 40, 50, 60))]
    assert not any("\n" in each.message for each in report.findings)
    for each, words in zip(
        report.findings[:3],
        ("70.orbax-checkpoint-tmp-3 is not", "80 is not a", "5.fluoroscope.json is the seal"),
        strict=True,
    ):
        assert words in each.message
    (unknown,) = (each for each in report.findings if each.reason == "CONFIG")
    assert str(unknown).startswith(
        f"error CONFIG: {run}, step 60: the model config has an unknown key 'bukets'; nearest:"
    )


def test_deep(run: Path) -> None:
    report = check_model(run, deep=True, require_seal=True)
    assert reasons(report, errors=True) == [
        (20, "DAMAGED"),
        *((30, reason) for reason in ("UNSEALED", "NOT_FINITE")),
        *((40, reason) for reason in ("UNSEALED", "NOT_FINITE")),
        *((50, reason) for reason in ("UNSEALED", "MISMATCH")),
        *((60, reason) for reason in ("UNSEALED", "CONFIG")),
    ]
    texts = {each.step: each.message for each in report.findings if each.reason == "NOT_FINITE"}
    assert "the network computes an output" in texts[30]
    assert "the weights are not finite" in texts[40]


def test_nothing_to_find(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "10", tmp_path / "10")
    shutil.copy(run / "10.fluoroscope.json", tmp_path)
    report = check_model(tmp_path, deep=True, require_seal=True)
    assert (report.steps, report.findings, report.would_be_refused) == ([10], [], False)


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda path: path.exists(), "is an empty folder"),
        (lambda path: (path / "80").mkdir(), "has no committed step; empty or unfinished: 80"),
        (lambda path: (path / "model.toml").write_text("family ="), "model.toml cannot be read"),
    ],
)
def test_no_step_at_all(tmp_path: Path, prepare: Callable[[Path], Any], words: str) -> None:
    prepare(tmp_path)
    (finding,) = check_model(tmp_path).findings
    assert finding.is_error
    assert words in finding.message


def test_the_models_of_a_repository(tmp_path: Path) -> None:
    for name in ("b", "a", ".hidden"):
        (tmp_path / name).mkdir()
    (tmp_path / "README").write_text("")
    assert models_in(tmp_path) == [tmp_path / "a", tmp_path / "b"]
