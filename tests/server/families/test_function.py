"""Pure functions as networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

from fluoroscope_server.errors import ConfigError
from fluoroscope_server.families import PureFunction, build_network
from fluoroscope_server.families.function import function_network, nested

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fluoroscope_server.model_config import ModelConfig


def affine(variables: Any, inputs: Mapping[str, jax.Array]) -> Any:
    return checkpoint_name(inputs["x"] @ variables["layer"]["w"], "product") + variables["layer"]["b"][None]


VARIABLES = {"layer": {"w": np.ones((4, 3), np.float32), "b": np.zeros(3, np.float32)}}


def test_a_function_with_its_variables(
    config: Callable[..., ModelConfig], family: Callable[[Any], str], site_paths: Callable[..., list[str]]
) -> None:
    path = family(lambda _: PureFunction(apply=affine, variables=VARIABLES))
    network = build_network(config(family=path), {})
    assert network.variables == jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), VARIABLES)
    assert site_paths(network) == ["dot_general:0", "product", "broadcast_in_dim:0", "add:0"]


def test_a_bare_function_gets_the_stored_tree(config: Callable[..., ModelConfig], family: Callable[[Any], str]) -> None:
    stored = {"layer/w": ((4, 3), np.dtype(np.float32)), "layer/b": ((3,), np.dtype(np.float32))}
    network = build_network(config(family=family(lambda _: affine)), stored)
    assert network.signature.outputs[0].shape == (-1, 3)
    assert str(jax.tree.structure(network.variables)) == str(jax.tree.structure(VARIABLES))


def test_a_callable_object_is_a_function(config: Callable[..., ModelConfig], family: Callable[[Any], str]) -> None:
    class Scale:
        def __call__(self, variables: object, inputs: dict[str, jax.Array]) -> jax.Array:
            del variables
            return inputs["x"] * 2.0

    assert build_network(config(family=family(lambda _: Scale())), {}).signature.output_names == ("output",)


def test_nested() -> None:
    spec = ((2,), np.dtype(np.float32))
    tree = nested({"a/b/c": spec, "a/d": spec, "e": spec})
    leaf = jax.ShapeDtypeStruct(*spec)
    assert tree == {"a": {"b": {"c": leaf}, "d": leaf}, "e": leaf}


def test_numbers_of_64_bits_are_floats_of_32_or_left_out() -> None:
    """Any trainer's checkpoint has a step that it counted in Python."""
    stored: dict[str, tuple[tuple[int, ...], np.dtype]] = {
        "w": ((2,), np.dtype(np.float64)),
        "step": ((), np.dtype(np.int64)),
        "seed": ((2,), np.dtype(np.uint32)),
    }
    tree = nested(stored)
    assert {name: str(leaf.dtype) for name, leaf in tree.items()} == {"w": "float32", "seed": "uint32"}


def test_variables_without_shapes_are_refused(config: Callable[..., ModelConfig]) -> None:
    with pytest.raises(ConfigError, match="each leaf of a function's variables must have a shape and a dtype"):
        function_network(PureFunction(apply=affine, variables={"layer": {"w": 1.0}}), config())


def test_variables_that_are_not_there(config: Callable[..., ModelConfig], family: Callable[[Any], str]) -> None:
    with pytest.raises(ConfigError, match=r"the network does not run on inputs x: float32.*'layer'"):
        build_network(config(family=family(lambda _: affine)), {})


def test_abstract_variables_will_do(config: Callable[..., ModelConfig]) -> None:
    abstract = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, VARIABLES))
    network = function_network(PureFunction(apply=affine, variables=abstract), config())
    assert network.variables["layer"]["w"].shape == (4, 3)
