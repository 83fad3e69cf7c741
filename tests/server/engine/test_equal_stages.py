"""Stages that compute the same are compiled once; what only looks the same is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from fluoroscope_server.engine import Execution, Statistics

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.server.engine.conftest import Lab

LAYERS = 6


def executables(lab: Lab, *sites: str, **question: Any) -> list[int]:
    """Returns which executable each stage runs, counted as they come."""
    program = lab.program(lab.inspect(*sites, execution=Execution.STAGED, **question))
    numbers: dict[int, int] = {}
    return [numbers.setdefault(id(stage.executable), len(numbers)) for stage in program.stages]


def test_layers_that_differ_in_weights_only_are_compiled_once(function_lab: Callable[..., Lab]) -> None:
    """Layer 3 has another activation function, and of layer 0 the input of the network is what goes in."""
    weights = np.random.default_rng(0).normal(size=(LAYERS, 4, 4)).astype(np.float32)

    def network(variables: Any, inputs: dict[str, jax.Array]) -> Any:
        x = inputs["x"]
        for layer, weight in enumerate(variables):
            x = checkpoint_name((jnp.sin if layer == 3 else jnp.tanh)(x @ weight), f"layer/{layer}")
        return x

    lab, x = function_lab(network, list(weights)), np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
    assert executables(lab, "layer/*") == [0, 0, 0, 1, 0, 0]
    values, carry = lab.capture("layer/*", x=x, execution=Execution.STAGED), x
    for layer, weight in enumerate(weights):
        carry = (np.sin if layer == 3 else np.tanh)(carry @ weight)
        np.testing.assert_allclose(values[f"layer/{layer}"], carry, rtol=1e-4, atol=1e-5)
    assert executables(lab, "layer/*", reductions=[Statistics()]) == [0, 0, 0, 1, 0, 2]  # nothing is behind the last


def test_constants_and_python_functions_are_told_apart(function_lab: Callable[..., Lab]) -> None:
    """Some constants, and all callbacks, are no part of the text that is compiled."""
    large = jnp.arange(4096, dtype=jnp.float32)

    def network(_: Any, inputs: dict[str, jax.Array]) -> Any:
        x = inputs["x"]
        for layer in range(LAYERS):
            shift = large * layer

            def body(carry: jax.Array, _: Any, shift: jax.Array = shift) -> Any:
                return jnp.sin(carry + shift[None, :4]), None

            def add(value: np.ndarray, layer: int = layer) -> np.ndarray:
                return np.asarray(value) + np.float32(layer)

            x, _ = jax.lax.scan(body, x, length=3)
            x = jax.pure_callback(add, jax.ShapeDtypeStruct(x.shape, x.dtype), x)
            x = checkpoint_name(x, f"layer/{layer}")
        return x

    lab, x = function_lab(network), np.ones((4, 4), np.float32)
    assert executables(lab, "layer/*") == [0, 1, 2, 3, 4, 5]
    values, carry = lab.capture("layer/*", x=x, execution=Execution.STAGED), x
    for layer in range(LAYERS):
        for _ in range(3):
            carry = np.sin(carry + np.arange(4, dtype=np.float32) * layer)
        carry = carry + np.float32(layer)
        np.testing.assert_allclose(values[f"layer/{layer}"], carry, rtol=1e-4, atol=1e-5)


def test_what_takes_other_values_of_the_same_kind_is_told_apart(function_lab: Callable[..., Lab]) -> None:
    """Each layer takes one of the two before it: all have the same text, and take their values from elsewhere."""

    def network(_: Any, inputs: dict[str, jax.Array]) -> Any:
        first, second = inputs["x"], inputs["x"] * 2.0
        for layer in range(LAYERS):
            taken = first if layer % 2 else second
            first, second = second, checkpoint_name(jnp.tanh(taken), f"layer/{layer}")
        return second

    lab, x = function_lab(network), np.ones((4, 4), np.float32)
    values = lab.capture("layer/*", x=x, execution=Execution.STAGED)
    first, second = x, x * 2
    for layer in range(LAYERS):
        taken = first if layer % 2 else second
        first, second = second, np.tanh(taken)
        np.testing.assert_allclose(values[f"layer/{layer}"], second, rtol=1e-5)
