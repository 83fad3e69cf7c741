"""The message for an operator whose checkpoint does not fit."""

from __future__ import annotations

import jax.numpy as jnp

from fluoroscope_server.checkpoints.leaf import LeafSpec
from fluoroscope_server.checkpoints.matching import best_match
from fluoroscope_server.checkpoints.mismatch import mismatch


def spec(*shape: int) -> LeafSpec:
    return LeafSpec(shape=shape, dtype=jnp.dtype("float32"))


def message(stored: dict[str, LeafSpec], expected: dict[str, LeafSpec]) -> str:
    return mismatch("checkpoint 'run'", best_match(stored, expected), stored, expected).message


def test_every_leaf_is_listed() -> None:
    stored = {"params/params/a": spec(2), "params/params/b": spec(3, 4), "params/params/d": spec()}
    expected = {"params/a": spec(2), "params/b": spec(4, 3), "params/c": spec(5)}
    assert message(stored, expected) == (
        "checkpoint 'run' does not fit the network: 1 of 3 leaves fit under 'params'\n"
        "1 missing:\n"
        "  params/c: expected float32[5]\n"
        "1 of the wrong shape or dtype:\n"
        "  params/b: expected float32[4, 3], found float32[3, 4]\n"
        "1 extra, with no place in the network:\n"
        "  params/params/d: found float32[]\n"
        "Check that the config (sizes, number of layers) is the one that the checkpoint was trained with."
    )


def test_long_lists_are_not_cut() -> None:
    expected = {f"params/layer_{index}/kernel": spec(1) for index in range(200)}
    assert all(path in message({"params/layer_0/kernel": spec(2)}, expected) for path in expected)


def test_nothing_in_common_says_where_to_look() -> None:
    text = message({"student/w": spec(1), "teacher/w": spec(1)}, {"params/a": spec(2)})
    assert "At its top the checkpoint has student, teacher" in text
    assert "set `prefix`" in text
