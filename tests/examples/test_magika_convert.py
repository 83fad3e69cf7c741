from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import onnx
import orbax.checkpoint as ocp
import pytest

import convert
from network import build
from weights import SCOPE, read_variables

if TYPE_CHECKING:
    from pathlib import Path

    from weights import PackagedModel


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    folder = tmp_path_factory.mktemp("convert") / "checkpoint"
    return folder, convert.convert(folder)


def test_checkpoint_restores_to_the_weights_of_the_package(
    checkpoint: tuple[Path, int], variables: dict[str, Any]
) -> None:
    folder, step = checkpoint
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), variables)
    with ocp.CheckpointManager(folder, item_names=("state", "config")) as checkpoints:
        assert checkpoints.all_steps() == [step]
        restored = checkpoints.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(like)))["state"]
    jax.tree.map(np.testing.assert_array_equal, restored, variables)


def test_config_item_makes_the_network_that_the_weights_fit(
    checkpoint: tuple[Path, int], variables: dict[str, Any]
) -> None:
    folder, step = checkpoint
    config = json.loads((folder / str(step) / "config" / "metadata").read_text())
    assert config["family"] == f"{build.__module__}:{build.__qualname__}"
    (spec,) = config["inputs"].values()
    tokens = jax.ShapeDtypeStruct((3, *spec["shape"]), spec["dtype"])
    assert jax.eval_shape(build(config["config"]).apply, variables, tokens).shape == (3, 214)


def test_a_step_that_is_there_is_not_overwritten(checkpoint: tuple[Path, int]) -> None:
    folder, step = checkpoint
    with pytest.raises(ValueError, match=f"has step {step} already"):
        convert.convert(folder)


def test_it_says_what_it_did_and_what_to_run_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["convert.py", str(tmp_path / "with space")])
    convert.main()
    said = capsys.readouterr().out
    assert "784,150 weights, 214 file types" in said
    assert f"fluoroscope-server serve --model magika='{tmp_path}/with space'" in said


def test_another_network_is_refused_by_the_node_it_lacks(packaged: PackagedModel, tmp_path: Path) -> None:
    model = onnx.load(packaged.graph)
    next(node for node in model.graph.node if node.name == SCOPE + "Conv_0/Conv2D").name = "renamed"
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(KeyError, match="Conv_0/Conv2D"):
        read_variables(tmp_path / "other.onnx")
