"""The config beside the weights, in each way that Orbax writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orbax.checkpoint as ocp
import pytest
from orbax.checkpoint import v1

from fluoroscope_server.checkpoints import open_checkpoint
from fluoroscope_server.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = {
    "family": "base_network",
    "config": {"hidden_sizes": [512, 256], "act_fn": "relu", "bias": True, "rate": 0.5, "norm": None, "extra": []},
    "inputs": {"image": {"dtype": "float32", "shape": [28, 28, 1]}},
}


def save(path: Path, state: Any, config: Any) -> Path:
    items = ocp.args.Composite(state=ocp.args.StandardSave(state), config=ocp.args.JsonSave(config))
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        checkpointer.save(path, args=items)
    return path


def test_json_item(tmp_path: Path, params: dict[str, Any]) -> None:
    assert open_checkpoint(save(tmp_path / "run", params, CONFIG)).config == CONFIG


def test_json_item_of_v1(tmp_path: Path, params: dict[str, Any]) -> None:
    path = save(tmp_path / "run", params, CONFIG)
    (path / "config" / "metadata").rename(path / "config" / "data.json")  # the name is all that differs
    assert open_checkpoint(path).config == CONFIG


def test_plain_dict_of_v1(tmp_path: Path, params: dict[str, Any]) -> None:
    v1.save_checkpointables(tmp_path / "run", {"state": params, "config": CONFIG})
    assert open_checkpoint(tmp_path / "run").config == CONFIG


def test_no_config(saved: Path) -> None:
    assert open_checkpoint(saved).config is None


def test_config_that_is_no_object(tmp_path: Path, params: dict[str, Any]) -> None:
    path = save(tmp_path / "run", params, CONFIG)
    (path / "config" / "metadata").write_text("[1, 2]")
    with pytest.raises(CheckpointError, match="item 'config', is not a JSON object; save it with `JsonSave`"):
        open_checkpoint(path)


def test_config_that_is_no_json(tmp_path: Path, params: dict[str, Any]) -> None:
    path = save(tmp_path / "run", params, CONFIG)
    for text, why in (('{"family": ', "Expecting value"), ("[" * 200_000, "maximum recursion depth exceeded")):
        (path / "config" / "metadata").write_text(text)
        with pytest.raises(CheckpointError, match=f"item 'config', is not JSON: {why}"):
            open_checkpoint(path)


def test_config_that_is_no_unicode(tmp_path: Path, params: dict[str, Any]) -> None:
    path = save(tmp_path / "run", params, CONFIG)
    (path / "config" / "metadata").write_text(r'{"inputs": {"x\ud800": {}}}')
    with pytest.raises(CheckpointError, match=r"item 'config', holds '\\ud800', half a character"):
        open_checkpoint(path)


def test_config_with_arrays(tmp_path: Path, params: dict[str, Any]) -> None:
    v1.save_checkpointables(tmp_path / "run", {"state": params, "config": params})
    with pytest.raises(CheckpointError, match="item 'config', holds arrays; it must be a JSON object"):
        open_checkpoint(tmp_path / "run")
