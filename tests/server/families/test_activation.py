"""The activation functions, against NumPy in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
import pytest

from fluoroscope_server.families.activation import ACTIVATIONS

if TYPE_CHECKING:
    from collections.abc import Callable

X = np.linspace(-3, 3, 25)

FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": lambda x: x,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "leakyrelu": lambda x: np.where(x > 0, x, 0.1 * x),
    "elu": lambda x: np.where(x > 0, x, np.exp(x) - 1),
    "swish": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_functions(name: str) -> None:
    found = ACTIVATIONS[name](jnp.asarray(X, jnp.float32))
    np.testing.assert_allclose(found, FUNCTIONS[name](X), rtol=1e-5, atol=1e-6)
