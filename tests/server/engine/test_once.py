"""What a function returns in several places is returned once, and found in all of them again."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fluoroscope_server.engine.once import Once

X = np.arange(3, dtype=np.float32)


def repeating(x: jax.Array) -> Any:
    y = jnp.sin(x)
    return {"first": y, "more": [x, y, (y + 1.0,)], "none": ()}


def test_the_whole_is_as_it_was() -> None:
    once = Once(repeating)
    arrays = jax.jit(once)(X)
    assert len(arrays) == 3
    whole = once.whole(arrays)
    assert str(jax.tree.structure(whole)) == str(jax.tree.structure(repeating(jnp.asarray(X))))
    for mine, theirs in zip(jax.tree.leaves(whole), jax.tree.leaves(repeating(jnp.asarray(X))), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6)
    assert whole["first"] is whole["more"][1]


def test_nothing_at_all() -> None:
    once = Once(lambda: ((), ()))
    assert once.whole(jax.jit(once)()) == ((), ())
