"""The canary: weights and outputs that are not finite are found, and named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from fluoroscope.wire.dtype import DTYPES
from fluoroscope_server.engine import Engine
from fluoroscope_server.errors import NotFiniteError
from fluoroscope_server.families import build_network
from fluoroscope_server.model_config import Canary
from fluoroscope_server.serving import canary
from fluoroscope_server.serving.canary import check_weights, try_forward
from fluoroscope_server.signature import BATCH, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    import jax

    from fluoroscope_server.model_config import ModelConfig


class Logarithm(nn.Module):
    """Not finite where its input, less the parameter `floor`, is not positive."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.log(x - self.param("floor", nn.initializers.zeros, ()))


class Chain(nn.Module):
    """A layer, the one above, and one that only sees what that left."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(2, name="after")(Logarithm(name="log")(nn.Dense(3, name="before")(x)))


@pytest.fixture
def engine_of(config: Callable[..., ModelConfig], family: Callable[[Any], str]) -> Callable[..., Engine]:
    """Makes an engine of a module or function with these variables."""

    def make(network: Any, variables: Any, **changes: Any) -> Engine:
        built = build_network(
            config(family=family(lambda _: network), buckets=[2], **changes),
            {"floor": ((), np.dtype("float32"))},
        )
        return Engine(built, variables, buckets=[2])

    return make


def chain(floor: float) -> Any:
    """Returns variables with which `log` sees `1 - floor`, whatever the input is."""
    return {
        "params": {
            "before": {"kernel": jnp.zeros((4, 3)), "bias": jnp.ones(3)},
            "log": {"floor": jnp.float32(floor)},
            "after": {"kernel": jnp.ones((3, 2)), "bias": jnp.zeros(2)},
        }
    }


def test_a_network_that_is_finite(engine_of: Callable[..., Engine]) -> None:
    try_forward(engine_of(Chain(), chain(0.5)), Canary())


@pytest.mark.parametrize(("floor", "count", "output"), [(1.0, "6 infinite", "4 infinite"), (2.0, "6 NaN", "4 NaN")])
def test_the_first_module_that_is_not_finite_is_named(
    floor: float, count: str, output: str, engine_of: Callable[..., Engine]
) -> None:
    engine = engine_of(Chain(), chain(floor))
    with pytest.raises(NotFiniteError) as refused:
        try_forward(engine, Canary())
    assert refused.value.message.startswith(
        f"of zeros, the network computes an output 'output' that is not finite ({output}). "
        f"The first value that is not finite is that of 'log' ({count}). Serve an earlier step. If that is meant to be"
    )
    try_forward(engine, Canary(run=False))
    try_forward(engine, Canary(allow_nonfinite=True))
    engine.close()


def test_an_equation_is_named_where_there_are_no_modules(engine_of: Callable[..., Engine]) -> None:
    """And the second batch finds what zeros do not."""

    def apply(variables: Any, inputs: Any) -> Any:
        return {"one": inputs["x"], "two": 1 + jnp.sqrt(variables["floor"] - inputs["x"])}

    engine = engine_of(apply, {"floor": jnp.float32(0)})
    words = r"of numbers drawn from 0 to 1, the network computes an output 'two' .*NaN.* that of 'sqrt:0' \("
    with pytest.raises(NotFiniteError, match=words):
        try_forward(engine, Canary())
    engine.close()


@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES.values() if dtype.itemsize < 8], ids=str)
def test_inputs_of_every_dtype_are_finite_and_in_range(dtype: np.dtype) -> None:
    spec = TensorSpec(name="x", dtype=dtype, shape=(BATCH, 50))
    drawn = canary._drawn(spec, 2, np.random.default_rng(1))
    assert (drawn.dtype, drawn.shape) == (dtype, (2, 50))
    wide = drawn.astype(np.complex128).real
    assert ((wide >= 0) & (wide <= 1)).all()
    assert len(np.unique(wide)) >= 2
    assert (len(np.unique(wide)) > 2) == (dtype.kind == "c" or np.dtype(dtype).name.startswith(("float", "bfloat")))


def test_weights_that_are_not_finite_are_listed() -> None:
    tree = {f"layer_{index}": jnp.array([1, np.nan, np.inf, np.nan]) for index in range(10)}
    with pytest.raises(NotFiniteError) as refused:
        check_weights({"params": {**tree, "whole": jnp.ones(3)}}, Canary())
    assert refused.value.message.startswith(
        "the weights are not finite: params/layer_0: 2 NaN and 1 infinite; params/layer_1: 2 NaN and 1 infinite; "
    )
    assert "; and 2 more. Did the training diverge? Serve an earlier step." in refused.value.message
    assert "whole" not in refused.value.message
    check_weights(tree, Canary(allow_nonfinite=True))
