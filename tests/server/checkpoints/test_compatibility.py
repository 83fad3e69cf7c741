"""The 44 checkpoints that the orbax-checkpoint wheel ships to test itself: some whole, some broken on purpose."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
import pytest

from fluoroscope_server.checkpoints import open_checkpoint
from fluoroscope_server.errors import CheckpointError

from ...lacking import lack

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(ocp.__file__).parent / "experimental/v1/_src/testing/compatibility/checkpoints"
FOLDERS = sorted(str(each.relative_to(ROOT)) for each in ROOT.glob("*/*/*/*"))

# What is broken, by the name that Orbax gave to the folder, and what our message must say about it.
BROKEN = {
    "pytree_checkpointable_missing_metadata": "no _METADATA file",
    "missing_pytree_data_dir_d": "the data is missing",
    "missing_pytree_data_file_manifest.ocdbt": "the data is missing",
    "deleted_checkpointable": "no item that holds arrays; it has metadata (JSON)",
}


def _is_broken(folder: str) -> bool:
    return Path(folder).name in BROKEN


def _saved() -> dict[str, object]:
    return {"a": jnp.arange(8, dtype=jnp.int32), "b": {"c": jnp.array([1, 2, 3], jnp.int32)}}


def test_nothing_is_left_out() -> None:
    if not FOLDERS:
        lack("this orbax-checkpoint ships no checkpoints")
    assert len(FOLDERS) == 44
    assert sum(map(_is_broken, FOLDERS)) == 13


@pytest.mark.parametrize("folder", [each for each in FOLDERS if not _is_broken(each)])
def test_whole_checkpoint_loads(folder: str, same_bits: Callable[[Any, Any], None]) -> None:
    restored = open_checkpoint(ROOT / folder).restore(jax.eval_shape(_saved))
    same_bits(restored, _saved())


@pytest.mark.parametrize("folder", [each for each in FOLDERS if _is_broken(each)])
def test_broken_checkpoint_is_refused_in_one_paragraph(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(CheckpointError) as refused:
        open_checkpoint(Path(folder)).restore(jax.eval_shape(_saved))
    message = refused.value.message
    assert message.startswith(f"checkpoint '{folder}'")
    assert BROKEN[Path(folder).name] in message
    assert "\n" not in message
    assert len(message) < 500
    assert str(ROOT) not in message
    assert "tensorstore" not in message.lower()
    assert refused.value.__cause__ is None
