"""Paths of leaves, and which dtypes may become which."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluoroscope_server.checkpoints.leaf import LeafSpec, by_path, converts
from fluoroscope_server.errors import CheckpointError


def spec(dtype: Any, *shape: int) -> LeafSpec:
    return LeafSpec(shape=shape, dtype=jnp.dtype(dtype))


def test_paths_are_alike_for_every_container() -> None:
    pair = by_path({"a": [{"w": 1}, (2, 3)], "b/c": 4, "d": {"0": 5}})
    assert pair == {"a/0/w": 1, "a/1/0": 2, "a/1/1": 3, "b/c": 4, "d/0": 5}


def test_two_leaves_with_one_path() -> None:
    with pytest.raises(CheckpointError, match="two leaves of the tree have the path 'a/b'"):
        by_path({"a/b": 1, "a": {"b": 2}})


def test_spec_for_people() -> None:
    assert str(spec("bfloat16", 784, 512)) == "bfloat16[784, 512]"


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ("float32", "float32"),
        ("float32", "bfloat16"),
        ("bfloat16", "float32"),
        ("float64", "float16"),
        ("float32", "float8_e4m3fn"),
        ("complex64", "complex128"),
        ("int8", "int32"),
        ("uint8", "int16"),
        ("int4", "int8"),
        ("bool", "bool"),
    ],
)
def test_converts(stored: str, expected: str) -> None:
    assert converts(spec(stored, 2, 3), spec(expected, 2, 3))


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ("float32", "int8"),
        ("int32", "float32"),
        ("int64", "int32"),
        ("int32", "uint32"),
        ("int8", "int4"),
        ("bool", "int8"),
        ("int8", "bool"),
        ("bool", "float32"),
        ("float32", "complex64"),
        ("complex64", "float32"),
    ],
)
def test_refuses_another_kind(stored: str, expected: str) -> None:
    assert not converts(spec(stored, 2, 3), spec(expected, 2, 3))


@pytest.mark.parametrize("shape", [(3, 2), (2, 4), (1, 3), (2,), (2, 3, 1), ()])
def test_refuses_another_shape(shape: tuple[int, ...]) -> None:
    assert not converts(spec("float32", 2, 3), spec("float32", *shape))


def test_typed_key_is_stored_as_its_data() -> None:
    key = jax.eval_shape(lambda: jax.random.key(0))
    expected = LeafSpec(shape=key.shape, dtype=key.dtype)
    assert converts(LeafSpec(shape=(2,), dtype=np.dtype(np.uint32)), expected)
    assert not converts(LeafSpec(shape=(3, 2), dtype=np.dtype(np.uint32)), expected)
    assert not converts(LeafSpec(shape=(2,), dtype=np.dtype(np.float32)), expected)
