"""The form of every network: outputs have names, and the batch comes first."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import FrozenDict

from fluoroscope_server.errors import ConfigError
from fluoroscope_server.families import PureFunction
from fluoroscope_server.families.function import function_network
from fluoroscope_server.signature import BATCH, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    import jax

    from fluoroscope_server.families import Network
    from fluoroscope_server.model_config import ModelConfig

INT1 = getattr(jnp, "int1", None)  # not every JAX that is allowed has it
X = np.arange(8, dtype=np.float32).reshape(2, 4)


@pytest.fixture
def network(config: Callable[..., ModelConfig]) -> Callable[..., Network]:
    """Makes a network of a function of `x`."""

    def make(apply: Callable[[jax.Array], Any], **changes: Any) -> Network:
        return function_network(
            PureFunction(apply=lambda _, inputs: apply(inputs["x"]), variables={}), config(**changes)
        )

    return make


def one(x: jax.Array) -> jax.Array:
    return x * 1.0


def two(x: jax.Array) -> jax.Array:
    return x * 2.0


@pytest.mark.skipif(INT1 is None, reason="this JAX has no type that the contract lacks")
def test_an_output_of_a_type_that_cannot_be_sent(network: Callable[..., Network]) -> None:
    with pytest.raises(
        ConfigError, match="output 'y' is int1, and the contract has no such type: let the network cast"
    ):
        network(lambda x: {"y": x.astype(INT1)})


@pytest.mark.parametrize(
    ("returned", "names", "factors"),
    [
        (one, ("output",), (1,)),
        (lambda x: [one(x)], ("output",), (1,)),
        (lambda x: (one(x), two(x)), ("output_0", "output_1"), (1, 2)),
        (lambda x: {"scores": one(x)}, ("scores",), (1,)),
        (lambda x: {"b": one(x), "a": two(x)}, ("a", "b"), (2, 1)),
        (lambda x: FrozenDict({"b": one(x), "a": two(x)}), ("a", "b"), (2, 1)),
        (lambda x: collections.OrderedDict(b=one(x), a=two(x)), ("b", "a"), (1, 2)),
        (lambda x: {"a": one(x), "none": None}, ("a",), (1,)),
        (lambda x: {"a": {"b": one(x)}, "c": two(x)}, ("output_0", "output_1"), (1, 2)),
    ],
)
def test_names_of_outputs(
    returned: Callable[[jax.Array], Any],
    names: tuple[str, ...],
    factors: tuple[int, ...],
    network: Callable[..., Network],
) -> None:
    made = network(returned)
    assert made.signature.output_names == names
    for output, factor in zip(made.function({}, (jnp.asarray(X),)), factors, strict=True):
        np.testing.assert_array_equal(output, factor * X)


@pytest.mark.parametrize(
    ("returned", "named", "names"),
    [
        (one, ["logits"], ("logits",)),
        (lambda x: (one(x), two(x)), ["first", "second"], ("first", "second")),
        (lambda x: {"a": one(x)}, ["logits"], ("logits",)),
        (lambda x: {"a": one(x), "b": two(x)}, ["b", "a"], ("a", "b")),  # each name keeps its value
        (lambda x: {"a": {"b": one(x)}, "c": two(x)}, ["b", "c"], ("b", "c")),
    ],
)
def test_names_that_the_config_gives(
    returned: Callable[[jax.Array], Any], named: list[str], names: tuple[str, ...], network: Callable[..., Network]
) -> None:
    assert network(returned, outputs=named).signature.output_names == names


@pytest.mark.parametrize(
    ("returned", "named", "message"),
    [
        (one, ["a", "b"], r"the config names 2 outputs \(a, b\), and the network returns 1"),
        (lambda x: (one(x), two(x)), ["a"], r"the config names 1 outputs \(a\), and the network returns 2"),
        (
            lambda x: {"a": one(x), "b": two(x)},
            ["a", "c"],
            "the config names the outputs a, c, and the network a, b; use the network's names",
        ),
        (lambda _: None, [], "the network returns nothing; it must return an array"),
        (lambda _: {}, ["a"], "the network returns nothing"),
        (lambda x: x.sum(), [], r"output 'output' has shape \(\) for a batch of 3 and \(\) for 4: the first axis"),
        (lambda x: x.T, [], r"output 'output' has shape \(4, 3\) for a batch of 3 and \(4, 4\) for 4"),
        (lambda x: (x, x.reshape(-1)), [], r"output 'output_1' has shape \(12,\) for a batch of 3"),
        (lambda x: x[:3], [], r"output 'output' has shape \(3, 4\) for a batch of 3 and \(3, 4\) for 4"),
        (lambda x: (x, 3.0), [], r"output 'output_1' has shape \(\)"),
        (lambda x: x @ x, [], r"the network does not run on inputs x: float32\[batch, 4\]: "),
        (lambda _: "text", [], "the network does not run on inputs"),
    ],
)
def test_refusals(
    returned: Callable[[jax.Array], Any], named: list[str], message: str, network: Callable[..., Network]
) -> None:
    with pytest.raises(ConfigError, match=message):
        network(returned, outputs=named)


@pytest.mark.parametrize(
    ("dtype", "computed"),
    [("int64", "int32"), ("uint64", "uint32"), ("float64", "float32"), ("complex128", "complex64")],
)
def test_types_that_jax_would_round_are_refused(dtype: str, computed: str, network: Callable[..., Network]) -> None:
    with pytest.raises(
        ConfigError, match=f"input 'x' is {dtype}, and JAX would make it {computed}: .* JAX_ENABLE_X64=1"
    ):
        network(one, inputs={"x": {"shape": [4], "dtype": dtype}})


def test_specs_of_outputs(network: Callable[..., Network]) -> None:
    made = network(lambda x: {"half": x.astype(jnp.bfloat16), "flags": x[:, 0] > 0})
    assert made.signature.outputs == (
        TensorSpec(name="flags", dtype=np.dtype(bool), shape=(BATCH,)),
        TensorSpec(name="half", dtype=np.dtype(jnp.bfloat16), shape=(BATCH, 4)),
    )
