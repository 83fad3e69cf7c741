"""Trees to save, and the question that every restore has to answer: the same bits?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def variables() -> dict[str, Any]:
    """Linen variables with batch statistics."""
    generator = np.random.default_rng(7)

    def array(*shape: int) -> jax.Array:
        return jnp.asarray(generator.normal(size=shape), jnp.float32)

    return {
        "params": {
            "Dense_0": {"kernel": array(4, 3), "bias": array(3)},
            "BatchNorm_0": {"scale": array(3), "bias": array(3)},
        },
        "batch_stats": {"BatchNorm_0": {"mean": array(3), "var": array(3)}},
    }


@pytest.fixture
def params(variables: dict[str, Any]) -> dict[str, Any]:
    """The same network's variables without the statistics."""
    return {"params": variables["params"]}


@pytest.fixture
def save(tmp_path: Path) -> Callable[[Any], Path]:
    """Saves a tree as one StandardCheckpointer folder."""

    def write(tree: Any) -> Path:
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(tmp_path / "saved", tree)
        return tmp_path / "saved"

    return write


@pytest.fixture
def saved(save: Callable[[Any], Path], variables: dict[str, Any]) -> Path:
    """One StandardCheckpointer folder with the variables."""
    return save(variables)


@pytest.fixture
def save_files(tmp_path: Path) -> Callable[[Any], Path]:
    """Saves a tree in the layout that has a folder of files for each leaf, so that a test can break one."""

    def write(tree: Any) -> Path:
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=False)) as checkpointer:
            checkpointer.save(tmp_path / "files", args=ocp.args.PyTreeSave(tree))
        return tmp_path / "files"

    return write


@pytest.fixture
def same_bits() -> Callable[[Any, Any], None]:
    """Asserts that two trees have the same structure, dtypes, shapes and bits."""

    def check(restored: Any, saved: Any) -> None:
        got, want = jax.tree.flatten(restored), jax.tree.flatten(saved)
        assert str(got[1]) == str(want[1])
        for mine, theirs in zip(got[0], want[0], strict=True):
            assert isinstance(mine, jax.Array)
            assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
            assert np.asarray(mine).tobytes() == np.asarray(theirs).tobytes()

    return check
