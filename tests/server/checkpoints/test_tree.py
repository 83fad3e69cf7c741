"""The structure of a stored tree, and the reading of chosen leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluoroscope_server.checkpoints.leaf import LeafSpec
from fluoroscope_server.checkpoints.tree import read_tree, read_values
from fluoroscope_server.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def spec(*shape: int, dtype: str = "float32") -> LeafSpec:
    return LeafSpec(shape=shape, dtype=np.dtype(dtype))


def test_leaves_are_the_arrays(save_files: Callable[[Any], Path]) -> None:
    path = save_files({"a": [jnp.ones((2, 3)), np.int8(1)], "text": "hello", "number": 3, "empty": {}, "none": None})
    assert read_tree(path, subject="x").leaves == {
        "a/0": spec(2, 3),
        "a/1": spec(dtype="int8"),
        "number": spec(dtype="int64"),
    }


def test_only_wanted_leaves_are_read(saved: Path, variables: dict[str, Any]) -> None:
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    wanted = {"params/Dense_0/bias": jax.ShapeDtypeStruct((3,), jnp.float32, sharding=sharding)}
    arrays = read_tree(saved, subject="x").read(wanted)
    assert arrays.keys() == wanted.keys()
    assert jnp.array_equal(arrays["params/Dense_0/bias"], variables["params"]["Dense_0"]["bias"])


def test_values(save_files: Callable[[Any], Path]) -> None:
    tree = {"text": "hello", "numbers": [1, 2.5], "deep": {"flag": True, "none": None}}
    assert read_values(save_files(tree), subject="x") == tree


def test_values_that_are_arrays(saved: Path) -> None:
    with pytest.raises(CheckpointError, match=r"^x holds arrays; it must be a JSON object$"):
        read_values(saved, subject="x")
