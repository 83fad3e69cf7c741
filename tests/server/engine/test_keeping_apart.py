"""Which values keep the rows of a batch apart, for networks as people write them, and for ways to mix rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

from fluoroscope_server.engine.traced import trace
from fluoroscope_server.families.catalogue import BUILTIN, build_network
from fluoroscope_server.families.linen import Linen, linen_network
from fluoroscope_server.model_config import ModelConfig

from ...builtin_families import EXAMPLES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .conftest import Lab

BUCKETS = (4, 6)


@pytest.mark.parametrize("family", BUILTIN)
def test_builtin_networks(family: str) -> None:
    network = build_network(ModelConfig.parse(EXAMPLES[family].model_config()), {})
    mixed = trace(network, BUCKETS).mixed
    assert (mixed.outputs, mixed.values) == (False, frozenset())


class Layers(nn.Module):
    """What Flax offers, one behind the other, of sequences of five tokens of four features."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        tokens: Any = nn.Dense(20)(x).reshape(x.shape[0], 5, 4)
        tokens = nn.BatchNorm(use_running_average=True)(nn.Conv(4, (3,), padding="CAUSAL")(tokens))
        tokens = nn.GroupNorm(num_groups=2)(nn.LayerNorm()(nn.RMSNorm()(tokens)))
        mask = nn.make_causal_mask(tokens[..., 0])
        tokens = tokens + nn.MultiHeadDotProductAttention(num_heads=2)(tokens, mask=mask)
        tokens = nn.RNN(nn.LSTMCell(4))(tokens) + nn.RNN(nn.GRUCell(4), reverse=True, keep_order=True)(tokens)
        tokens = nn.Embed(7, 4)(jnp.argmax(tokens, -1)) + jnp.sin(jnp.arange(5.0))[None, :, None] * tokens
        pooled = nn.pooling.min_pool(tokens, (2,)) + nn.max_pool(tokens, (2,))
        joined = jnp.concatenate([jnp.broadcast_to(self.param("token", nn.initializers.ones, (1, 4)), x.shape), x], -1)
        top, _ = jax.lax.top_k(nn.softmax(pooled.reshape(x.shape[0], -1)), 3)
        flat = nn.Dense(3)(tokens.reshape(-1, 4)).reshape(x.shape[0], -1)
        head: jax.Array = nn.WeightNorm(nn.Dense(3))(jnp.concatenate([joined, top, flat, jnp.cumsum(x, axis=1)], -1))
        return head


@pytest.mark.parametrize("buckets", [(1,), (1, 4), BUCKETS])
def test_layers_of_flax(buckets: tuple[int, ...], config: Callable[..., ModelConfig]) -> None:
    mixed = trace(linen_network(Linen(module=Layers()), config()), buckets).mixed
    assert (mixed.outputs, mixed.values) == (False, frozenset())


def _time_first(x: jax.Array) -> jax.Array:
    steps = jnp.moveaxis(jnp.stack([x, x + 1.0, x - 1.0], axis=1), 1, 0)
    _, found = jax.lax.scan(lambda state, step: (jnp.tanh(state + step),) * 2, jnp.zeros_like(x), steps)
    return found.sum(0)


def _written_in_a_loop(x: jax.Array) -> jax.Array:
    """Keeps what each step has computed, as a cache of keys does."""

    def step(buffer: jax.Array, place: jax.Array) -> tuple[jax.Array, None]:
        return jax.lax.dynamic_update_slice(buffer, x[:, None] * place.astype(float), (0, place, 0)), None

    return jax.lax.scan(step, jnp.zeros((x.shape[0], 3, x.shape[1])), jnp.arange(3))[0].sum(1)


def _beside_a_mutable_array(x: jax.Array) -> jax.Array:
    total = jax.new_ref(jnp.zeros(4))
    total[...] = x.sum(0)
    both: jax.Array = x + total[...][None]
    return both


APART: dict[str, Callable[[jax.Array], jax.Array]] = {
    "repeated": lambda x: jnp.repeat(x, 3, axis=0).reshape(x.shape[0], 3, -1).sum(1),
    "places joined and parted": lambda x: jnp.cos(x.reshape(-1)).reshape(x.shape),
    "time first": _time_first,
    "written to some units": lambda x: x.at[:, 0].set(0.0).at[:, jnp.array([1, 2])].add(x[:, 2:]),
    "written in a loop": _written_in_a_loop,
    "one kernel for all": lambda x: jnp.einsum("bi,bj->bij", x, x).sum(-1),
    "its own place": lambda x: jnp.take_along_axis(x, jnp.argmax(x, -1, keepdims=True), -1) * x,
    "each alone": lambda x: jax.lax.map(lambda row: jnp.sort(row) - row.mean() + jnp.arange(4.0), x),
    "a token for each": lambda x: x + jnp.concatenate([jnp.ones((1, 4))] * x.shape[0]),
    "tiled": lambda x: x + jnp.tile(jnp.ones((1, 4)), (x.shape[0], 1)),
    "kept as it is": lambda x: jax.lax.optimization_barrier((jnp.ones(()), x))[1],
    "the same noise for each": lambda x: x + jax.random.normal(jax.random.key(0), (1, 4)),
    "matrices": lambda x: x * jnp.linalg.det(jnp.einsum("bi,bj->bij", x, x) + jnp.eye(4)[None])[:, None],
}


def _written_to_the_first(x: jax.Array) -> jax.Array:
    numbers = jax.lax.ScatterDimensionNumbers((0, 1), (), (1,))
    return jax.lax.scatter(x, jnp.zeros((1,), jnp.int32), jnp.zeros((2, 4)), numbers)


def _moved_by_a_stride(x: jax.Array) -> jax.Array:
    every = jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 1), (2, 1), "VALID")
    moved: jax.Array = jax.lax.reduce_window(
        every, 0.0, jax.lax.add, (1, 1), (1, 1), [(1, 0), (0, 0)], base_dilation=(2, 1)
    )
    return moved


MIXED: dict[str, Callable[[jax.Array], jax.Array]] = {
    "by its place": lambda x: x * jnp.arange(float(x.shape[0]))[:, None],
    "noise": lambda x: x + jax.random.normal(jax.random.key(0), x.shape),
    "a constant for each place": lambda x: x + np.arange(x.shape[0], dtype=np.float32)[:, None],
    "how many there are": lambda x: x / x.shape[0],
    "read in another order": lambda x: x.reshape(x.shape[1], x.shape[0]).T,
    "time first, and read wrongly": lambda x: jnp.moveaxis(jnp.stack([x, -x], 1), 1, 0).reshape(x.shape[0], 2, -1)[
        :, 0
    ],
    "tiled": lambda x: jnp.tile(x, (2, 1))[::2],
    "in a loop": lambda x: jax.lax.fori_loop(0, 2, lambda _, y: jnp.where((y > 9).any(), y, y + 1), x),
    "in a branch": lambda x: jax.lax.cond(x.sum() > 0, jnp.sin, jnp.cos, x),
    "counted": lambda x: jax.lax.scan(lambda seen, row: (seen + 1, row * seen), 0, x)[1],
    "of those before": lambda x: jax.lax.scan(lambda seen, row: (seen + row, seen), jnp.zeros(4), x)[1],
    "handed on by another": lambda x: jax.lax.scan(
        lambda two, row: ((two[0] + row, two[0]), row * 0 + two[1]), (jnp.zeros(4), jnp.zeros(4)), x
    )[1],
    "the one before": lambda x: jax.lax.scan(lambda last, row: (row, last), jnp.zeros(4), x)[1],
    "beside all": lambda x: jax.lax.map(lambda row: row - x.mean(0), x),
    "beside its place": lambda x: jax.lax.map(lambda both: both[0] * both[1], (x, jnp.arange(float(x.shape[0])))),
    "called outside": lambda x: jax.pure_callback(lambda y: y - y[:1], jax.ShapeDtypeStruct(x.shape, x.dtype), x),
    "of each pair": lambda x: jnp.ones((x.shape[0], x.shape[0])) @ x,
    "shares of all pairs": lambda x: x / jnp.ones((x.shape[0], x.shape[0])).sum(0)[:, None],
    "only in a small batch": lambda x: jnp.cumsum(x, 0) if x.shape[0] <= 4 else jnp.sin(x),
    "chosen by the size": lambda x: (jnp.cumsum(x, 0), jnp.sin(x))[x.shape[0] > 4],
    "to the power of the size": lambda x: x ** x.shape[0],
    "a column by the size": lambda x: x * x[:, x.shape[0] // 2 - 1][:, None],
    "a constant by the size": lambda x: x * jnp.asarray(np.full((1, 4), x.shape[0], np.float32)),
    "as often as there are rows": lambda x: jax.lax.map(
        lambda row: jax.lax.fori_loop(0, x.shape[0], lambda _, y: y * 0.9, row), x
    ),
    "forwards or backwards": lambda x: jax.lax.cumsum(x, 1, reverse=x.shape[0] > 4),
    "written to the first": _written_to_the_first,
    "moved by a stride": _moved_by_a_stride,
    "in a mutable array": _beside_a_mutable_array,
    "the centre": lambda x: x - x.mean(0, keepdims=True),
    "the largest": lambda x: x / jnp.abs(x).max(),
    "near others": lambda x: (x @ x.T) @ x,
    "moved": lambda x: jnp.roll(x, 1, axis=0),
    "summed along": lambda x: jnp.cumsum(x, axis=0),
    "beside weights of others": lambda x: jax.lax.scan(lambda y, _: (y - y.mean(0, keepdims=True), None), x, length=2)[
        0
    ],
}


def _site(function: Callable[[jax.Array], jax.Array]) -> Callable[[Any, Mapping[str, jax.Array]], jax.Array]:
    def apply(_: Any, inputs: Mapping[str, jax.Array]) -> jax.Array:
        checkpoint_name(function(inputs["x"]), "looked_at")
        return inputs["x"] * 2.0

    return apply


def _keeps_apart(lab: Lab, batch: Callable[..., np.ndarray]) -> bool:
    """Returns whether rows have the values that they have alone, by running the network."""
    x = batch(6)
    together = lab.capture("looked_at", x=x)["looked_at"]
    alone = [lab.capture("looked_at", x=row[None])["looked_at"][0] for row in x]
    return np.allclose(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", APART)
def test_what_keeps_rows_apart(name: str, function_lab: Callable[..., Lab], batch: Callable[..., np.ndarray]) -> None:
    lab = function_lab(_site(APART[name]), buckets=(1, *BUCKETS))
    assert lab.keeps("looked_at")
    assert _keeps_apart(lab, batch)


@pytest.mark.parametrize("name", MIXED)
def test_what_mixes_rows(name: str, function_lab: Callable[..., Lab], batch: Callable[..., np.ndarray]) -> None:
    lab = function_lab(_site(MIXED[name]), buckets=(*BUCKETS, 8))
    lab.engine.probe_rows()
    assert not lab.keeps("looked_at")
    assert lab.engine.joined_rows == 8, "no output needs it"
    if name not in {"in a loop", "in a branch"}:  # there it depends on the numbers
        assert not _keeps_apart(lab, batch)


def _noisy(x: jax.Array) -> jax.Array:
    return x + jax.random.normal(_KEYS[x.shape[0] > 4], (1, 4))


_KEYS = jax.random.key(0), jax.random.key(1)


def _scanned(x: jax.Array) -> jax.Array:
    factor = jnp.sin(x[:1]) if x.shape[0] > 4 else 2.0
    return jax.lax.scan(lambda y, _: (y * factor, None), x, length=3)[0]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * (np.ones((6, 4), np.float32) if x.shape[0] == 6 else 2.0),
        lambda x: x * x if x.shape[0] > 4 else x * 2.0,
        lambda x: jnp.clip(x, 0.0, x if x.shape[0] > 4 else 1.0),
        _scanned,
        _noisy,
    ],
    ids=["constants", "operands", "ranks", "inputs of a loop", "keys"],
)
def test_a_network_that_computes_otherwise_for_another_size_is_in_doubt(
    function: Callable[[jax.Array], jax.Array], function_lab: Callable[..., Lab]
) -> None:
    lab = function_lab(lambda _, inputs: function(inputs["x"]), buckets=BUCKETS)
    assert lab.engine.joined_rows == 0
