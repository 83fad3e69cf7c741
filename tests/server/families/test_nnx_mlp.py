"""The NNX network: each of its modules against NumPy in float64, and what its config may not say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fluoroscope_server.engine import SiteKind
from fluoroscope_server.errors import ConfigError
from fluoroscope_server.families import build_network
from fluoroscope_server.families.activation import ACTIVATIONS
from fluoroscope_server.families.nnx_mlp import ResidualMlp, build

from ...builtin_families import EXAMPLES
from ...drawn import doubles

if TYPE_CHECKING:
    from collections.abc import Callable

    from fluoroscope_server.model_config import ModelConfig

    from .conftest import Served

EXAMPLE = EXAMPLES["nnx_mlp"]
ROWS, DEPTH = 4, 2


def test_defaults() -> None:
    state = nnx.to_pure_dict(nnx.state(build({"in_features": 784})))
    assert state["embed"]["kernel"].shape == (784, 256)
    assert list(state["layers"]) == [0, 1, 2, 3]
    assert state["head"]["kernel"].shape == (256, 10)
    leaves = {type(leaf) for leaf in jax.tree.leaves(state)}
    assert leaves == {jax.ShapeDtypeStruct}, "no weights are made only to be thrown away"


def by_hand(params: Any, x: np.ndarray) -> dict[str, np.ndarray]:
    """Returns what each module returns, in order, computed in float64."""
    params = doubles(params)

    def linear(weights: Any, x: np.ndarray) -> np.ndarray:
        return np.asarray(x @ weights["kernel"] + weights["bias"])

    def norm(weights: Any, x: np.ndarray) -> np.ndarray:
        scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return np.asarray(scaled * weights["scale"] + weights["bias"])

    stream = linear(params["embed"], x.reshape(len(x), -1).astype(np.float64))
    found = {"embed": stream}
    for index in range(DEPTH):
        layer = params["layers"][index]
        found[f"layers/{index}/norm"] = norm(layer["norm"], stream)
        found[f"layers/{index}/linear"] = linear(layer["linear"], found[f"layers/{index}/norm"])
        stream = stream + np.maximum(found[f"layers/{index}/linear"], 0)
        found[f"layers/{index}"] = stream
    found["norm"] = norm(params["norm"], stream)
    found["head"] = found["__call__"] = linear(params["head"], found["norm"])
    return found


def test_module_sites_are_what_the_modules_compute(serve: Callable[..., Served]) -> None:
    served, x = serve(EXAMPLE), EXAMPLE.inputs(ROWS)
    want = by_hand(nnx.to_pure_dict(served.variables), x)
    found = served.capture(x, "**", kinds=(SiteKind.MODULE,))
    assert list(found) == list(want)
    for site, value in found.items():
        np.testing.assert_allclose(value, want[site], rtol=1e-4, atol=1e-5, err_msg=site)


def test_what_was_trained_is_what_is_served(serve: Callable[..., Served]) -> None:
    """The class that a training script uses is the one that is served."""
    x, labels = EXAMPLE.inputs(ROWS), np.array([0, 1, 2, 0])
    network = ResidualMlp(**EXAMPLE.config, act_fn=ACTIVATIONS["relu"], rngs=nnx.Rngs(0))

    def loss(network: ResidualMlp) -> jax.Array:
        return -(jax.nn.log_softmax(network(jnp.asarray(x))) * jax.nn.one_hot(labels, 3)).mean()

    @nnx.jit
    def step(network: ResidualMlp) -> Any:
        value, gradients = nnx.value_and_grad(loss)(network)
        nnx.update(network, jax.tree.map(lambda weight, slope: weight - 0.3 * slope, nnx.state(network), gradients))
        return value

    losses = [step(network) for _ in range(3)]
    assert losses == sorted(losses, reverse=True), "it learns"
    state = nnx.state(network)
    np.testing.assert_array_equal(serve(EXAMPLE, state).predict(x), EXAMPLE.apply(state, x))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "nnx_mlp's config must say in_features, for which nothing can be assumed; it says nothing"),
        ({"width": 3}, "nnx_mlp's config must say in_features, for which nothing can be assumed; it says width"),
        ({"in_features": [28, 28]}, r"nnx_mlp's in_features must be a positive number, not \[28, 28\]"),
        ({"in_features": 4, "width": -3}, "nnx_mlp's width must be a positive number, not -3"),
        ({"in_features": 4, "depth": 1.5}, "nnx_mlp's depth must be a positive whole number, not 1.5"),
        ({"in_features": 4, "num_classes": True}, "nnx_mlp's num_classes must be a positive number, not True"),
        ({"in_features": 4, "act_fn": "swosh"}, "nnx_mlp has no act_fn 'swosh'; nearest: 'swish'"),
    ],
)
def test_refusals(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(given)


def test_an_input_of_another_size(config: Callable[..., ModelConfig]) -> None:
    with pytest.raises(ConfigError, match="an example has 6 numbers, and in_features is 4"):
        build_network(config(family="nnx_mlp", config={"in_features": 4}, inputs={"x": {"shape": [2, 3]}}), {})
