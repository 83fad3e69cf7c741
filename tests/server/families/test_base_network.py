"""The builtin family: its defaults, its activation functions, and every wrong config."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluoroscope_server.errors import ConfigError
from fluoroscope_server.families.activation import ACTIVATIONS
from fluoroscope_server.families.base_network import INITIALIZERS, BaseNetwork, build


def test_defaults_are_those_of_the_notebooks() -> None:
    network = build({})
    assert tuple(network.hidden_sizes) == (512, 256, 256, 128)
    assert network.num_classes == 10
    assert network.act_fn is nn.relu


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_functions(name: str) -> None:
    assert build({"act_fn": name}).act_fn is ACTIVATIONS[name]


@pytest.mark.parametrize("name", INITIALIZERS)
def test_initializers(name: str) -> None:
    network = build({"kernel_init": name, "hidden_sizes": [], "num_classes": 3})
    variables = jax.eval_shape(network.init, jax.random.key(0), jnp.ones((2, 4)))
    assert variables["params"]["Dense_0"]["kernel"].shape == (4, 3)


@pytest.mark.parametrize("sizes", [(), (5,), (5, 3)])
def test_returns_the_value_before_and_after_each_activation_and_the_logits(sizes: tuple[int, ...]) -> None:
    network = BaseNetwork(hidden_sizes=sizes, num_classes=2)
    x = np.ones((3, 2, 2), np.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), x)
    variables = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.5), shapes)
    applied: Any = network.apply(variables, x, return_activations=True)
    logits, activations = applied
    assert [each.shape for each in activations] == [(3, size) for size in sizes for _ in range(2)] + [(3, 2)]
    np.testing.assert_array_equal(activations[-1], logits)
    alone: Any = network.apply(variables, x)
    np.testing.assert_array_equal(alone, logits)
    for before, after in zip(activations[:-1:2], activations[1::2], strict=True):
        np.testing.assert_array_equal(after, np.maximum(before, 0))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"hiden_sizes": [1]},
            "base_network has no 'hiden_sizes'; nearest: 'hidden_sizes'.*; "
            "known: hidden_sizes, act_fn, num_classes, kernel_init",
        ),
        ({"hidden_sizes": "512"}, "hidden_sizes must be a list of positive sizes, not '512'"),
        ({"hidden_sizes": 512}, "hidden_sizes must be a list of positive sizes, not 512"),
        ({"hidden_sizes": [512, 0]}, r"hidden_sizes must be a list of positive sizes, not \[512, 0\]"),
        ({"hidden_sizes": [True]}, r"hidden_sizes must be a list of positive sizes, not \[True\]"),
        ({"hidden_sizes": [2.0]}, r"hidden_sizes must be a list of positive sizes, not \[2.0\]"),
        ({"num_classes": 0}, "num_classes must be a positive number, not 0"),
        ({"num_classes": "ten"}, "num_classes must be a positive number, not 'ten'"),
        ({"num_classes": None}, "num_classes must be a positive number, not None"),
        (
            {"act_fn": "reluu"},
            "has no act_fn 'reluu'; nearest: 'relu', .*; known: identity, sigmoid, tanh, relu, leakyrelu, elu",
        ),
        ({"act_fn": None}, "has no act_fn None; nearest: .*; known: identity"),
        ({"act_fn": ["relu"]}, r"has no act_fn \['relu'\]; nearest: 'relu'.*; known: identity"),
        (
            {"kernel_init": {"name": "normal"}},
            "has no kernel_init {'name': 'normal'}; nearest: .*; known: lecun_normal",
        ),
        (
            {"kernel_init": "he"},
            "has no kernel_init 'he'; nearest: .*; known: lecun_normal, lecun_uniform, kaiming_normal",
        ),
    ],
)
def test_refusals(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(config)
