"""Sites: where the batch axis is found, and why some values cannot be captured."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

from fluoroscope_server.engine.traced import trace
from fluoroscope_server.errors import ConfigError
from fluoroscope_server.families.function import PureFunction, function_network
from fluoroscope_server.signature import BATCH

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fluoroscope_server.engine import Site
    from fluoroscope_server.model_config import ModelConfig


@pytest.fixture(scope="module")
def sites(config: Callable[..., ModelConfig]) -> Callable[..., dict[str, Site]]:
    """Traces a function of `x: float32[batch, 4]` and returns its sites by path."""

    def make(apply: Callable[[jax.Array], Any], *, buckets: Sequence[int] = (1, 4), **changes: Any) -> dict[str, Site]:
        function = PureFunction(apply=lambda _, inputs: apply(inputs["x"]), variables={})
        network = function_network(function, config(**changes))
        return {site.path: site for site in trace(network, buckets).sites}

    return make


@pytest.mark.parametrize("axis", range(4))
@pytest.mark.parametrize("buckets", [(1, 4), (4,), (1,), (2, 3, 4)])
def test_batch_axis_at_every_position(
    axis: int, buckets: tuple[int, ...], sites: Callable[..., dict[str, Site]]
) -> None:
    """Even where every other axis has the size of a bucket."""

    def moved(x: jax.Array) -> jax.Array:
        named = checkpoint_name(jnp.moveaxis(x, 0, axis), "moved")
        return jnp.moveaxis(named, axis, 0)

    site = sites(moved, buckets=buckets, inputs={"x": {"shape": [4, 2, 3]}})["moved"]
    assert site.batch_axis == axis
    assert site.shape == (*(4, 2, 3)[:axis], BATCH, *(4, 2, 3)[axis:])
    assert site.bytes_per_example == 4 * 2 * 3 * 4
    assert not site.reason


def test_no_batch_axis(sites: Callable[..., dict[str, Site]]) -> None:
    site = sites(lambda x: x + checkpoint_name(jnp.arange(4, dtype=jnp.float32)[None], "positions"))["positions"]
    assert site.shape == (1, 4)
    assert site.batch_axis is None
    assert site.bytes_per_example == 16
    assert not site.reason


@pytest.mark.parametrize(
    ("apply", "reason"),
    [
        (lambda x: jnp.reshape(x, (-1, 2)), "axis 0 mixes the batch with something else (its size is 10 for 5 rows)"),
        (lambda x: x @ x.T, "axis 0 and 1 mixes the batch with something else (its size is 5 for 5 rows)"),
        (lambda x: jnp.reshape(x, x.shape[:1] + (1,) * x.shape[0] + x.shape[1:]), "its number of axes depends"),
        (lambda x: x[: (len(x) + 1) // 2], "axis 0 mixes the batch with something else (its size is 3 for 5 rows)"),
        (lambda x: x.mean(0), "it is computed of the whole batch, so rows that only fill a bucket would count"),
        (lambda x: x.sum(), "it is computed of the whole batch, so rows that only fill a bucket would count"),
    ],
)
def test_reasons(apply: Callable[[jax.Array], jax.Array], reason: str, sites: Callable[..., dict[str, Site]]) -> None:
    def network(x: jax.Array) -> jax.Array:
        return x + jnp.sum(checkpoint_name(apply(x), "odd"))

    site = sites(network)["odd"]
    assert site.reason.startswith(reason)
    assert site.batch_axis is None


def test_a_network_that_branches_on_the_batch_size(sites: Callable[..., dict[str, Site]]) -> None:
    def branching(x: jax.Array) -> jax.Array:
        if len(x) == 4:
            x = jnp.sin(jnp.sin(x))
        x = checkpoint_name(jnp.cos(x), "after")
        return jnp.sin(x) if len(x) != 4 else x * 2.0

    found = sites(branching)
    differs = "the network computes other values for a batch of 4 than for one of 5"
    assert found["sin:0"].reason == differs  # it is there in both, and is not the same
    assert found["cos:0"].reason == found["after"].reason == ""
    assert found["after"].shape == (BATCH, 4)
    assert "mul:0" not in found


@pytest.mark.parametrize("rows", [1, 4])
def test_other_types_for_other_batch_sizes(rows: int, sites: Callable[..., dict[str, Site]]) -> None:
    """Of a batch of one it is no matter: a larger bucket holds one row, too."""

    def branching(x: jax.Array) -> Any:
        small = checkpoint_name(x.astype(jnp.float16 if len(x) == rows else jnp.bfloat16), "small")
        return small.astype(jnp.float32)

    small = sites(branching)["small"]
    assert small.reason == ("" if rows == 1 else "the network computes other values for a batch of 4 than for one of 5")
    assert small.least_rows == (2 if rows == 1 else 1)
    assert small.dtype == jnp.bfloat16
    assert small.batch_axis == (0 if rows == 1 else None)


def test_random_keys_are_no_sites(sites: Callable[..., dict[str, Site]]) -> None:
    def random(x: jax.Array) -> jax.Array:
        return x + jax.random.normal(jax.random.key(0), x.shape)

    found = sites(random)
    assert found
    assert not [path for path in found if "random_seed" in path or "random_wrap" in path]
    assert all(isinstance(site.dtype, np.dtype) for site in found.values())


def test_mutable_arrays_are_no_sites(sites: Callable[..., dict[str, Site]]) -> None:
    def writing(x: jax.Array) -> Any:
        reference = jax.new_ref(x)
        reference[...] = reference[...] * 3.0
        return reference[...]

    assert not [path for path in sites(writing) if "ref" in path]


def test_orders_count_up(sites: Callable[..., dict[str, Site]]) -> None:
    orders = [site.order for site in sites(lambda x: jnp.sin(jnp.cos(x) * 2.0)).values()]
    assert orders == sorted(set(orders))


def test_the_same_sites_at_each_trace(sites: Callable[..., dict[str, Site]]) -> None:
    def apply(x: jax.Array) -> Any:
        return jax.nn.gelu(jax.nn.relu(x)) + jax.jit(jnp.sin)(x)

    assert list(sites(apply).items()) == list(sites(apply).items())


def test_threads_trace_one_after_the_other(config: Callable[..., ModelConfig]) -> None:
    """The operator's code need not be safe under threads."""
    inside: list[int] = []
    most: list[int] = []

    def unsafe(_: object, inputs: dict[str, jax.Array]) -> jax.Array:
        x = inputs["x"]
        inside.append(1)
        for _ in range(20):
            most.append(len(inside))
            x = x + 1.0
        inside.pop()
        return x

    functions = [PureFunction(apply=functools.partial(unsafe), variables={}) for _ in range(8)]
    networks = [function_network(function, config()) for function in functions]
    most.clear()
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda network: [site.path for site in trace(network, (1, 4)).sites], networks))
    assert most == [1] * (8 * 3 * 20)
    assert results == [[f"add:{index}" for index in range(20)]] * 8


def test_a_network_that_fails_at_one_batch_size(sites: Callable[..., dict[str, Site]]) -> None:
    def picky(x: jax.Array) -> jax.Array:
        if len(x) == 7:
            raise RuntimeError("seven is too many")
        return x

    with pytest.raises(ConfigError, match="cannot be traced with a batch of 7: seven is too many"):
        sites(picky, buckets=(1, 7))
