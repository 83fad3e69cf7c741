"""Steps that a trainer deletes, replaces or hides while they are read: refused, and never half a network."""

from __future__ import annotations

import shutil
import threading
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
import pytest

from fluoroscope_server.checkpoints import open_checkpoint
from fluoroscope_server.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    SameBits = Callable[[Any, Any], None]
    Save = Callable[[Any], Path]


def test_step_deleted_before_its_arrays_are_read(saved: Path, variables: dict[str, Any]) -> None:
    checkpoint = open_checkpoint(saved)
    shutil.rmtree(saved)
    with pytest.raises(CheckpointError, match="was deleted while it was read; serve another step"):
        checkpoint.restore(variables)


def test_step_deleted_while_it_is_opened(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def vanish(folder: Path) -> None:
        shutil.rmtree(saved)
        next(folder.iterdir())

    monkeypatch.setattr("fluoroscope_server.checkpoints.config.items_of", vanish)
    with pytest.raises(CheckpointError, match="cannot be read: it was deleted meanwhile"):
        open_checkpoint(saved)


def test_item_that_cannot_be_listed(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("fluoroscope_server.checkpoints.config.items_of", deny)
    with pytest.raises(CheckpointError, match="cannot be read: Permission denied"):
        open_checkpoint(saved)


def test_step_deleted_in_the_middle_of_the_reads(tmp_path: Path) -> None:
    tree = {f"layer_{index}": jnp.ones((64, 64)) for index in range(40)}
    with ocp.CheckpointManager(tmp_path / "run") as manager:
        manager.save(1, args=ocp.args.StandardSave(tree))
    checkpoint = open_checkpoint(tmp_path / "run")
    deletion = threading.Thread(target=shutil.rmtree, args=(tmp_path / "run" / "1",))
    deletion.start()
    refusal, restored = "", None
    try:
        restored = checkpoint.restore(tree)
    except CheckpointError as refused:
        refusal = refused.message
    deletion.join()
    assert "step 1" in refusal or all(bool((leaf == 1).all()) for leaf in jax.tree.leaves(restored))


def test_step_replaced_by_another_shape(tmp_path: Path, save: Save) -> None:
    path = save({"w": jnp.ones(3)})
    checkpoint = open_checkpoint(path)
    shutil.rmtree(path)
    save({"w": jnp.ones(5)})
    with pytest.raises(CheckpointError, match=f"checkpoint '{tmp_path / 'saved'}'"):
        checkpoint.restore({"w": jax.ShapeDtypeStruct((3,), jnp.float32)})
