"""Functions of `jax.nn` that JAX inlines have their names again, each call its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluoroscope_server.engine.flat import flatten

if TYPE_CHECKING:
    from collections.abc import Callable

X = np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4)


def functions(function: Callable[..., Any]) -> list[str]:
    """Returns the names of functions, without those of the equations inside them."""
    paths = [value.path for value in flatten(jax.make_jaxpr(function)(X)).values]
    return [path for path in paths if not any(path.startswith(f"{other}/") for other in paths)]


def twice(x: jax.Array) -> jax.Array:
    for _ in range(2):
        x = jax.nn.softmax(jax.nn.softmax(x))  # four calls, from one line
    return x


@jax.jit
def block(x: jax.Array) -> jax.Array:
    return jax.nn.softmax(jax.nn.elu(x))


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (jax.nn.softmax, ["softmax:0"]),
        (jax.nn.gelu, ["gelu:0"]),
        (twice, ["softmax:0", "softmax:1", "softmax:2", "softmax:3"]),
        (lambda x: jax.nn.softmax(jax.nn.gelu(x * 2.0) + 1.0), ["mul:0", "gelu:0", "add:0", "softmax:0"]),
        (jax.nn.relu, ["relu:0"]),
        (jax.nn.silu, ["silu:0"]),
        (jax.nn.log_softmax, ["log_softmax:0"]),
        (block, ["block:0"]),
        (lambda x: jnp.where(x > 0, jax.nn.elu(x), x), ["elu:0", "gt:0", "_where:0"]),
        (jax.checkpoint(jax.nn.softmax), ["softmax:0"]),
    ],
)
def test_names(function: Callable[..., Any], expected: list[str]) -> None:
    found = functions(function)
    assert found == expected or sorted(found) == sorted(expected)


def test_functions_inside_functions() -> None:
    paths = [value.path for value in flatten(jax.make_jaxpr(block)(X)).values]
    assert "block:0/softmax:0" in paths
    assert "block:0/softmax:0/exp:0" in paths
    assert not any("elu:0/elu:" in path or "softmax:0/softmax:" in path for path in paths)


def test_in_the_scope_of_its_module() -> None:
    module = nn.MultiHeadDotProductAttention(num_heads=2)
    variables = jax.eval_shape(module.init, jax.random.key(0), X[None])
    values = flatten(jax.make_jaxpr(module.apply)(variables, X[None])).values
    (weights,) = [value for value in values if value.path.endswith("softmax:0")]
    assert weights.atom.aval.shape == (1, 2, 3, 3)


def test_the_result_is_that_of_the_function() -> None:
    flat = flatten(jax.make_jaxpr(lambda x: jax.nn.softmax(x) * 2.0)(X))
    (value,) = [each for each in flat.values if each.path == "softmax:0"]
    np.testing.assert_allclose(flat.jaxpr.function([value.atom])(X)[0], jax.nn.softmax(X), rtol=1e-6)
