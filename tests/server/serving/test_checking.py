"""Checking: what loading would refuse is found, step by step, and nothing else is called an error."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
import pytest

from fluoroscope_server.checkpoints import seal
from fluoroscope_server.serving.checking import check_model

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


@pytest.fixture
def write(
    tmp_path: Path, save: Callable[..., Path], variables: Any, model_config: dict[str, Any]
) -> Callable[..., Path]:
    """Saves the small network with changes to its config."""
    return lambda **changes: save(tmp_path / "run", variables, {**model_config, "buckets": [1], **changes})


def errors_of(path: Path, *, deep: bool) -> list[tuple[str, str]]:
    return [(each.reason, each.message) for each in check_model(path, deep=deep).findings if each.is_error]


@pytest.mark.parametrize(
    ("preset", "words"),
    [
        ({"sites": ["Dense_7"]}, "preset 'mine': there is no site 'Dense_7'"),
        ({"sites": ["**"], "reduce": ["statistic"]}, "'statistic' is no reduction"),
    ],
)
def test_deep_tries_presets(write: Callable[..., Path], preset: dict[str, Any], words: str) -> None:
    path = write(presets={"mine": preset})
    assert errors_of(path, deep=False) == []
    ((reason, message),) = errors_of(path, deep=True)
    assert (reason, words in message) == ("CONFIG", True)


def test_deep_tries_every_bucket(write: Callable[..., Path], family: Callable[[Any], str]) -> None:
    def not_of_16(_: Any, inputs: dict[str, jax.Array]) -> dict[str, jax.Array]:
        assert inputs["image"].shape[0] != 16, "this many are too many"
        return {"logits": inputs["image"].sum(1)}

    path = write(family=family(lambda _: not_of_16), config={}, buckets=[1, 16])
    ((reason, message),) = errors_of(path, deep=True)
    assert (reason, "a batch of 16: this many are too many" in message) == ("CONFIG", True)
