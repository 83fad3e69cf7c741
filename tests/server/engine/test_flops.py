"""Floating point operations: counted on the jaxpr as the compiler counts them on its own."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluoroscope_server.engine.flat import flatten
from fluoroscope_server.engine.flops import Flops, equation_flops

if TYPE_CHECKING:
    from collections.abc import Callable

X = np.ones((8, 12, 12, 3), np.float32)
KERNEL = np.ones((3, 3, 3, 5), np.float32)
MATRIX = np.ones((16, 24), np.float32)


def counted(function: Callable[..., Any], *inputs: Any) -> float:
    flat = flatten(jax.make_jaxpr(function)(*inputs))
    return sum(equation_flops(equation) for equation in flat.jaxpr.equations)


def compiler(function: Callable[..., Any], *inputs: Any) -> float:
    analysis: Any = jax.jit(function).lower(*inputs).cost_analysis()
    return float(analysis.get("flops", 0))


def convolution(x: jax.Array, kernel: jax.Array, groups: int = 1) -> jax.Array:
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "VALID", dimension_numbers=numbers, feature_group_count=groups
    )


FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "matrix product": (jnp.dot, (MATRIX, MATRIX.T)),
    "batched product": (lambda x: jnp.einsum("bij,bkj->bik", x, x, preferred_element_type=jnp.float32), (X[..., 0],)),
    "convolution": (convolution, (X, KERNEL)),
    "grouped convolution": (functools.partial(convolution, groups=3), (X, np.ones((3, 3, 1, 6), np.float32))),
    "elements": (lambda x: (x + 1.0) * x - x, (MATRIX,)),
    "sum": (jnp.sum, (MATRIX,)),
    "moving data": (lambda x: jnp.concatenate([x.T.reshape(16, 24), x]), (MATRIX,)),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_as_the_compiler_counts(name: str) -> None:
    function, inputs = FUNCTIONS[name]
    assert counted(function, *inputs) == pytest.approx(compiler(function, *inputs), rel=0.01, abs=1)


def test_a_whole_network_nearly_as_the_compiler_counts() -> None:
    """It counts transcendental functions apart, and knows shortcuts for some of the rest."""

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            x = nn.relu(nn.Conv(16, (3, 3), padding="VALID")(x)).reshape(x.shape[0], -1)
            y: jax.Array = nn.Dense(10)(nn.relu(nn.Dense(64)(x)))
            return y

    module = Network()
    variables = jax.eval_shape(module.init, jax.random.key(0), X)
    assert counted(module.apply, variables, X) == pytest.approx(compiler(module.apply, variables, X), rel=0.02)


def test_a_loop_counts_as_often_as_it_runs_and_of_branches_the_dearest() -> None:
    def looped(x: jax.Array) -> Any:
        return jax.lax.scan(lambda carry, _: (carry * 2.0, None), x, length=7)[0]

    def branching(x: jax.Array) -> Any:
        return jax.lax.cond(x[0, 0] > 0, lambda x: x * 2.0, lambda x: x * 2.0 + 1.0, x)

    assert counted(looped, MATRIX) == 7 * MATRIX.size
    assert 2 * MATRIX.size <= counted(branching, MATRIX) <= 2 * MATRIX.size + 10


def test_fractions() -> None:
    def network(x: jax.Array) -> jax.Array:
        for _ in range(4):
            x = x @ jnp.asarray(np.ones((24, 24), np.float32))
        return x

    flat = flatten(jax.make_jaxpr(network)(MATRIX))
    flops = Flops(flat)
    products = [value.atom for value in flat.values if value.path.startswith("dot_general")]
    assert [flops.fraction(atom) for atom in products] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert flops.fraction(flat.jaxpr.inputs[0]) == 0.0
    assert flops.total == pytest.approx(4 * 2 * 16 * 24 * 24)


def test_a_network_without_arithmetic_needs_all_of_nothing() -> None:
    flat = flatten(jax.make_jaxpr(lambda x: x.T)(MATRIX))
    assert Flops(flat).fraction(flat.jaxpr.outputs[0]) == 1.0
