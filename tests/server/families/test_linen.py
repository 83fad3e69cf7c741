"""Linen modules as networks: every module's output is a site, and inputs find their parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluoroscope_server.engine import SiteKind
from fluoroscope_server.errors import ConfigError
from fluoroscope_server.families import Linen, build_network
from fluoroscope_server.families.linen import linen_network

if TYPE_CHECKING:
    from collections.abc import Callable

    from fluoroscope_server.families import Network
    from fluoroscope_server.model_config import ModelConfig

TWO_INPUTS = {"b": {"shape": [4]}, "a": {"shape": [4]}}


class Block(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.relu(nn.Dense(4)(x)) + self.side(x)

    def side(self, x: jax.Array) -> jax.Array:
        return nn.Dense(4, name="aside")(x)


class Net(nn.Module):
    """Blocks in a list, one of them under remat and one called twice."""

    def setup(self) -> None:
        self.layers = [Block(), nn.remat(Block)()]
        self.head = nn.Dense(2)

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers:
            x = layer(x)
        output: jax.Array = self.head(self.layers[0](x))
        return output

    def encode(self, x: jax.Array) -> jax.Array:
        output: jax.Array = self.layers[0](x)
        return output


class Regularized(nn.Module):
    """Behaves otherwise while it is trained."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> Any:
        x = nn.BatchNorm(use_running_average=not train)(nn.Dense(4)(x))
        self.sow("intermediates", "kept", x)
        return nn.Dropout(0.5, deterministic=not train)(x)


class Subtract(nn.Module):
    @nn.compact
    def __call__(self, a: jax.Array, b: jax.Array) -> jax.Array:
        return a - b


class SubtractOthers(nn.Module):
    @nn.compact
    def __call__(self, first: jax.Array, second: jax.Array) -> jax.Array:
        return first - second


class SubtractAny(nn.Module):
    @nn.compact
    def __call__(self, **inputs: jax.Array) -> jax.Array:
        return inputs["a"] - inputs["b"]


@pytest.fixture
def network(config: Callable[..., ModelConfig]) -> Callable[..., Network]:
    def make(module: nn.Module, **changes: Any) -> Network:
        return linen_network(Linen(module=module), config(**changes))

    return make


def test_modules_are_sites(network: Callable[..., Network], site_paths: Callable[..., list[str]]) -> None:
    assert site_paths(network(Net()), SiteKind.MODULE) == [
        "layers_0/Dense_0",
        "layers_0/aside",
        "layers_0/side",
        "layers_0",
        "layers_1/Dense_0",
        "layers_1/aside",
        "layers_1/side",
        "layers_1",
        "layers_0/Dense_0:1",
        "layers_0/aside:1",
        "layers_0/side:1",
        "layers_0:1",
        "head",
        "__call__",
    ]


def test_equations_are_in_the_scope_of_their_module(
    network: Callable[..., Network], site_paths: Callable[..., list[str]]
) -> None:
    paths = site_paths(network(Net()))
    assert {"layers_0/relu:0", "layers_1/relu:0", "layers_0/relu:1", "head/dot_general:0"} <= set(paths)
    assert not [path for path in paths if path.startswith("Net")]


@pytest.mark.parametrize("name", [None, "named"])
def test_the_name_of_the_root_is_in_no_path(
    name: str | None, network: Callable[..., Network], site_paths: Callable[..., list[str]]
) -> None:
    paths = site_paths(network(nn.Dense(3, name=name)))
    assert paths == ["dot_general:0", "reshape:0", "add:0", "__call__"]


def test_jit_inside_is_no_place(network: Callable[..., Network], site_paths: Callable[..., list[str]]) -> None:
    class Jitted(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            return nn.jit(nn.Dense)(3, name="inner")(x)

    assert site_paths(network(Jitted())) == [
        "inner/dot_general:0",
        "inner/reshape:0",
        "inner/add:0",
        "inner",
        "__call__",
    ]


def test_a_module_that_calls_its_base_class_is_one_place(
    network: Callable[..., Network], site_paths: Callable[..., list[str]]
) -> None:
    class Doubled(nn.Dense):
        @nn.compact
        def __call__(self, inputs: jax.Array) -> jax.Array:
            return super().__call__(inputs) * 2.0

    class Root(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            return Doubled(3, name="twice")(x)

    made = network(Root())
    assert site_paths(made, SiteKind.MODULE) == ["twice", "__call__"]
    paths = site_paths(made)
    assert paths.index("twice") > paths.index("twice/mul:0")  # it is what the outer call returns


def test_an_output_of_several_arrays(network: Callable[..., Network], site_paths: Callable[..., list[str]]) -> None:
    class Pair(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> dict[str, Any]:
            return {"b": x * 2.0, "a": (x, 1)}

    class Root(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            output: jax.Array = Pair(name="pair")(x)["b"]
            return output

    assert site_paths(network(Root()), SiteKind.MODULE) == ["pair/a/0", "pair/b", "__call__"]


def test_batch_norm_and_dropout_when_not_trained(config: Callable[..., ModelConfig]) -> None:
    made = linen_network(Linen(module=Regularized(), arguments={"train": False}), config())
    assert set(made.variables) == {"params", "batch_stats"}
    variables = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 2.0), made.variables)
    x = np.ones((3, 4), np.float32)
    (output,) = made.function(variables, (jnp.asarray(x),))
    want = Regularized().apply(variables, x, train=False)
    np.testing.assert_array_equal(output, want)


def test_a_module_that_needs_an_argument(config: Callable[..., ModelConfig], family: Callable[[Any], str]) -> None:
    with pytest.raises(ConfigError, match=r"Regularized does not run on inputs x: float32\[batch, 4\]: .*train"):
        build_network(config(family=family(lambda _: Regularized())), {})
    path = family(lambda _: Linen(module=Regularized(), arguments={"train": False}))
    assert build_network(config(family=path), {}).signature.output_names == ("output",)


def test_training_needs_random_numbers_that_a_server_has_not(config: Callable[..., ModelConfig]) -> None:
    with pytest.raises(ConfigError, match="does not run on inputs"):
        linen_network(Linen(module=Regularized(), arguments={"train": True}), config())


@pytest.mark.parametrize(("module", "sign"), [(Subtract(), 1), (SubtractAny(), 1), (SubtractOthers(), -1)])
def test_inputs_go_by_name_where_names_agree_else_by_position(
    module: nn.Module, sign: int, network: Callable[..., Network]
) -> None:
    made = network(module, inputs=TWO_INPUTS)
    b, a = jnp.ones((2, 4)), jnp.full((2, 4), 5.0)
    (output,) = made.function(made.variables, (b, a))
    np.testing.assert_array_equal(output, np.full((2, 4), 4.0 * sign))


def test_another_method(config: Callable[..., ModelConfig], site_paths: Callable[..., list[str]]) -> None:
    made = linen_network(Linen(module=Net(), method="encode"), config())
    assert site_paths(made, SiteKind.MODULE)[-2:] == ["layers_0", "encode"]
    with pytest.raises(ConfigError, match="Net has no method 'decode'"):
        linen_network(Linen(module=Net(), method="decode"), config())


def test_partitioned_variables_are_arrays(network: Callable[..., Network]) -> None:
    partitioned = nn.with_partitioning(nn.initializers.ones, (None, "model"))
    made = network(nn.Dense(3, kernel_init=partitioned))
    assert made.variables["params"]["kernel"] == jax.ShapeDtypeStruct((4, 3), jnp.float32)
