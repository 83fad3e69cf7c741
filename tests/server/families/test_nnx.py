"""NNX modules as networks: found without touching a class that threads share."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fluoroscope_server.engine import SiteKind
from fluoroscope_server.errors import ConfigError
from fluoroscope_server.families import build_network
from fluoroscope_server.families.mark import module_path
from fluoroscope_server.families.nnx import nnx_network

if TYPE_CHECKING:
    from collections.abc import Callable

    from fluoroscope_server.model_config import ModelConfig


class Block(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.linear = nnx.Linear(4, 4, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return nnx.relu(self.linear(x))


class Net(nnx.Module):
    """A list of layers, one shared, normalization and dropout."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.layers = nnx.List([Block(rngs) for _ in range(2)])
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.shared = self.layers[0].linear

    def __call__(self, x: jax.Array) -> Any:
        for layer in self.layers:
            x = layer(x)
        x = self.dropout(self.norm(x))
        return nnx.remat(lambda module, value: module(value))(self.shared, x)


SITES = [
    "layers/0/linear",
    "layers/0",
    "layers/1/linear",
    "layers/1",
    "norm",
    "dropout",
    "layers/0/linear:1",
    "__call__",
]


def state_of(module: nnx.Module) -> Any:
    _, *states = nnx.split(module, nnx.RngState, ...)
    return nnx.to_pure_dict(states[-1])


def test_modules_are_sites(config: Callable[..., ModelConfig], site_paths: Callable[..., list[str]]) -> None:
    assert site_paths(nnx_network(Net(nnx.Rngs(0)), config()), SiteKind.MODULE) == SITES


def test_equations_are_in_the_scope_of_their_module(
    config: Callable[..., ModelConfig], site_paths: Callable[..., list[str]]
) -> None:
    paths = site_paths(nnx_network(Net(nnx.Rngs(0)), config()))
    assert {"layers/0/linear/dot_general:0", "layers/0/relu:0", "layers/1/relu:0", "norm/rsqrt:0"} <= set(paths)
    assert not [path for path in paths if path.startswith("/")]


def test_computes_what_the_module_does_in_evaluation(config: Callable[..., ModelConfig]) -> None:
    module = Net(nnx.Rngs(1))
    network = nnx_network(module, config())
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)), jnp.float32)
    (output,) = jax.jit(network.function)(state_of(module), (x,))
    nnx.Module.eval(module)
    np.testing.assert_allclose(output, module(x), rtol=1e-6)
    assert str(jax.tree.structure(network.variables)) == str(jax.tree.structure(state_of(module)))


def test_other_variables_make_another_network(config: Callable[..., ModelConfig]) -> None:
    """The weights that the module came with are not in the network."""
    first, second = Block(nnx.Rngs(1)), Block(nnx.Rngs(2))
    network = nnx_network(first, config())
    x = jnp.ones((2, 4))
    (output,) = network.function(state_of(second), (x,))
    np.testing.assert_array_equal(output, second(x))


def test_an_abstract_module(config: Callable[..., ModelConfig], site_paths: Callable[..., list[str]]) -> None:
    abstract = nnx.eval_shape(lambda: Net(nnx.Rngs(0)))
    network = nnx_network(abstract, config())
    assert site_paths(network, SiteKind.MODULE) == SITES
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(network.variables))


def test_the_module_and_its_class_are_left_alone(config: Callable[..., ModelConfig]) -> None:
    module = Net(nnx.Rngs(0))
    call = Net.__call__
    nnx_network(module, config())
    assert type(module) is Net
    assert type(module.layers[0]) is Block
    assert Net.__call__ is call


def test_threads_lose_no_site(config: Callable[..., ModelConfig]) -> None:
    """Each trace marks instances of its own. (`nnx.capture` patches classes, and loses sites.)"""

    def trace(_: int) -> list[str]:
        network = nnx_network(Net(nnx.Rngs(0)), config())
        shapes = (jax.ShapeDtypeStruct((3, 4), jnp.float32),)
        closed = jax.make_jaxpr(network.function)(network.variables, shapes)
        marks = [str(each.params["name"]) for each in closed.jaxpr.eqns if each.primitive.name == "name"]
        return [path for mark in marks if (path := module_path(mark)) is not None]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(trace, range(20)))
    outside_remat = [*SITES[:6], "__call__"]
    assert found == [outside_remat] * 20


def test_several_inputs_go_by_position(config: Callable[..., ModelConfig], family: Callable[[Any], str]) -> None:
    class Subtract(nnx.Module):
        def __call__(self, first: jax.Array, second: jax.Array) -> dict[str, jax.Array]:
            return {"difference": first - second}

    inputs = {"b": {"shape": [4]}, "a": {"shape": [4]}}
    network = build_network(config(family=family(lambda _: Subtract()), inputs=inputs), {})
    assert network.signature.output_names == ("difference",)
    (output,) = network.function({}, (jnp.full((2, 4), 5.0), jnp.ones((2, 4))))
    np.testing.assert_array_equal(output, np.full((2, 4), 4.0))


def test_a_module_that_does_not_fit_its_inputs(config: Callable[..., ModelConfig]) -> None:
    with pytest.raises(ConfigError, match=r"the network does not run on inputs x: float32\[batch, 5\]"):
        nnx_network(Block(nnx.Rngs(0)), config(inputs={"x": {"shape": [5]}}))


def test_a_module_that_cannot_be_called(config: Callable[..., ModelConfig], family: Callable[[Any], str]) -> None:
    class Silent(nnx.Module):
        pass

    with pytest.raises(ConfigError, match="does not run on inputs"):
        build_network(config(family=family(lambda _: Silent())), {})
