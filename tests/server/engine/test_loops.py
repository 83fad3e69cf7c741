"""Loops: each iteration's values are those of the same network written out, whichever way they are asked for."""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.ad_checkpoint import checkpoint_name

from fluoroscope_server.engine import (
    Capture,
    Edit,
    Engine,
    Execution,
    Full,
    Gradient,
    Objective,
    SiteKind,
    SiteStatistics,
    Slice,
    Statistics,
    Zero,
)
from fluoroscope_server.families.nnx import nnx_network

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.server.engine.conftest import Lab

    from fluoroscope_server.model_config import ModelConfig

LAYERS = 5


def close(mine: Any, theirs: Any) -> None:
    np.testing.assert_allclose(np.asarray(mine), np.asarray(theirs), rtol=1e-5, atol=1e-6)


class Block(nn.Module):
    """A residual block; under scan, the carry is what goes through."""

    @nn.compact
    def __call__(self, x: jax.Array, _: Any = None) -> Any:
        up = nn.relu(nn.Dense(6, name="up")(x))
        return x + nn.Dense(4, name="down")(up), None


class Stack(nn.Module):
    """Blocks under scan, between two layers."""

    remat: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Dense(4, name="embed")(x)
        block = nn.remat(Block) if self.remat else Block
        scanned = nn.scan(block, variable_axes={"params": 0}, split_rngs={"params": True}, length=LAYERS)
        x, _ = scanned(name="layers")(x, None)
        head: jax.Array = nn.Dense(3, name="head")(x)
        return head


class Unrolled(nn.Module):
    """The same network, written out."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Dense(4, name="embed")(x)
        for layer in range(LAYERS):
            x, _ = Block(name=f"layers_{layer}")(x)
        head: jax.Array = nn.Dense(3, name="head")(x)
        return head


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "remat"])
def stack(request: pytest.FixtureRequest, linen_lab: Callable[..., Lab]) -> Lab:
    return linen_lab(Stack(remat=request.param))


def unrolled(lab: Lab, x: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the value of each module, by the name of its site."""
    return _unrolled(lab, x.tobytes())


@functools.cache
def _unrolled(lab: Lab, data: bytes) -> dict[str, np.ndarray]:
    x = np.frombuffer(data, np.float32).reshape(-1, 4)
    params = dict(lab.variables["params"])
    layers = params.pop("layers")
    for layer in range(LAYERS):
        params[f"layers_{layer}"] = jax.tree.map(lambda leaf, at=layer: leaf[at], layers)
    _, captured = Unrolled().apply({"params": params}, x, capture_intermediates=True)
    values: dict[str, np.ndarray] = {}
    for place, leaf in jax.tree_util.tree_leaves_with_path(captured["intermediates"]):
        *modules, _, _ = [str(getattr(key, "key", getattr(key, "idx", ""))) for key in place if str(key) != "[0]"] + [
            ""
        ]
        path = "/".join(part for part in modules if part != "__call__")
        values.setdefault(path or "__call__", np.asarray(leaf))
    return {_indexed(path): value for path, value in values.items()}


def _indexed(path: str) -> str:
    first, slash, rest = path.partition("/")
    return f"layers[{first.removeprefix('layers_')}]{slash}{rest}" if first.startswith("layers_") else path


def test_every_iteration_has_sites_of_its_own_in_order(stack: Lab) -> None:
    modules = [site.path for site in stack.engine.sites if site.kind is SiteKind.MODULE]
    layers = [f"layers[{layer}]{name}" for layer in range(LAYERS) for name in ("/up", "/down", "")]
    assert modules == ["embed", *layers, "layers[*]/up", "layers[*]/down", "layers[*]", "head", "__call__"]
    sites = stack.engine.sites
    assert sites["layers[2]/relu:0"].shape == (-1, 6)
    assert sites["layers[*]/relu:0"].shape == (LAYERS, -1, 6)
    assert sites["layers[*]/relu:0"].batch_axis == 1


@pytest.mark.parametrize("execution", [Execution.FUSED, Execution.STAGED])
def test_all_modules_are_those_of_the_network_written_out(
    stack: Lab, execution: Execution, batch: Callable[..., np.ndarray]
) -> None:
    x = batch(4)
    captured = stack.capture("**", x=x, kinds=[SiteKind.MODULE], execution=execution)
    expected = unrolled(stack, x)
    assert set(captured) == set(expected)
    for path, value in captured.items():
        close(value, expected[path])


@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_any_iterations_in_any_way(data: st.DataObject, stack: Lab) -> None:
    """Alone, several, all, stacked, cut, reduced, with rows that only fill the bucket."""
    rows = data.draw(st.integers(1, 4))
    x = np.random.default_rng(rows).normal(size=(rows, 4)).astype(np.float32)
    expected = unrolled(stack, x)
    layers = data.draw(st.sets(st.integers(0, LAYERS - 1), min_size=1))
    name = data.draw(st.sampled_from(["/up", "/down", ""]))
    execution = data.draw(st.sampled_from([Execution.FUSED, Execution.STAGED]))
    start = data.draw(st.integers(0, 2))
    stacked = data.draw(st.booleans())
    wanted = [f"layers[{layer}]{name}" for layer in layers] + [f"layers[*]{name}"] * stacked
    captured = stack.capture(*wanted, x=x, padding=1e9, slices=[Slice(axis=-1, start=start)], execution=execution)
    assert set(captured) == set(wanted)
    for layer in layers:
        path = f"layers[{layer}]{name}"
        close(captured[path], expected[path][:, start:])
    if stacked:
        whole = np.stack([expected[f"layers[{layer}]{name}"] for layer in range(LAYERS)])
        close(captured[f"layers[*]{name}"], whole[..., start:])


@pytest.mark.parametrize("execution", [Execution.FUSED, Execution.STAGED])
def test_statistics_of_each_iteration(stack: Lab, execution: Execution, batch: Callable[..., np.ndarray]) -> None:
    x = batch(3)
    reductions = [Statistics()]
    captured = stack.capture("layers[*]/**", x=x, padding=1e9, reductions=reductions, execution=execution)
    expected = unrolled(stack, x)
    for path in ("layers[0]/up", "layers[4]/up", "layers[2]/down"):
        statistics = captured[path]
        assert isinstance(statistics, SiteStatistics)
        assert statistics.count == expected[path].size
        assert statistics.mean == pytest.approx(expected[path].astype(np.float64).mean(), rel=1e-4, abs=1e-5)
        assert statistics.std == pytest.approx(expected[path].astype(np.float64).std(), rel=1e-4)


def test_slices_that_start_elsewhere_in_each_iteration(stack: Lab, batch: Callable[..., np.ndarray]) -> None:
    """One program reduces all iterations; where a slice starts is an argument for each."""
    x = batch(4)
    expected = unrolled(stack, x)
    captures = [
        Capture(sites=(f"layers[{layer}]/up",), slices=(Slice(axis=1, start=layer, stop=layer + 2),))
        for layer in range(LAYERS)
    ]
    inspection = stack.engine.inspect(captures, [], rows=4)
    for spec, value in zip(inspection.results, stack.run(inspection, x), strict=True):
        layer = int(spec.name[7])
        close(np.asarray(value), expected[spec.name][:, layer : layer + 2])


def test_predictions_and_outputs_stay_the_same(stack: Lab, batch: Callable[..., np.ndarray]) -> None:
    x = batch(4)
    plain = stack.predict(x)[0]
    for execution in (Execution.FUSED, Execution.STAGED):
        captured = stack.capture("layers[1]", x=x, outputs=["output"], execution=execution)
        np.testing.assert_array_equal(captured["output"], plain, strict=True)


def test_the_loop_runs_no_further_than_the_last_wanted_iteration(stack: Lab) -> None:
    """Of the layers' work, the first k of n need k / n; as the server counts, and as the compiler counts one body."""
    program = [stack.program(stack.inspect(f"layers[{layer}]")) for layer in range(LAYERS)]
    steps = [later.flops - sooner.flops for sooner, later in itertools.pairwise(program)]
    assert len(set(steps)) == 1
    assert steps[0] > 2 * 4 * (4 * 6 + 6 * 4)
    fractions = [stack.engine.sites[f"layers[{layer}]"].flops_fraction for layer in range(LAYERS)]
    whole = stack.program(stack.inspect("__call__")).flops
    assert fractions == pytest.approx([each.flops / whole for each in program])


def test_a_deep_capture_does_not_run_what_is_behind(linen_lab: Callable[..., Lab]) -> None:
    """Measured in iterations that a callback counts: the compiler cannot drop those that must not run."""
    ran: list[int] = []

    class Counting(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> Any:
            def body(carry: jax.Array, layer: jax.Array) -> Any:
                def count(value: np.ndarray, layer: np.ndarray) -> np.ndarray:
                    ran.append(int(layer))
                    return np.asarray(value)

                shape = jax.ShapeDtypeStruct(carry.shape, carry.dtype)
                carry = jax.pure_callback(count, shape, carry * 2.0, layer)
                return checkpoint_name(carry, "doubled"), None

            return jax.lax.scan(body, x, jnp.arange(LAYERS))[0]

    lab = linen_lab(Counting())
    x = np.ones((4, 4), np.float32)
    site = next(site.path for site in lab.engine.sites if site.path.endswith("[2]/doubled"))
    for execution in (Execution.FUSED, Execution.STAGED):
        ran.clear()
        captured = lab.capture(site, x=x, execution=execution)
        np.testing.assert_array_equal(captured[site], x * 8)
        assert ran == [0, 1, 2]


def both_ways(x: jax.Array) -> Any:
    """Two scans, one of them backwards, whose ys are needed behind them."""
    weights = jnp.arange(12, dtype=jnp.float32).reshape(3, 4) / 10

    def body(carry: jax.Array, weight: jax.Array) -> Any:
        carry = checkpoint_name(jnp.tanh(carry + weight[None]), "state")
        return carry, carry * 2.0

    with jax.named_scope("there"):
        there, ys = jax.lax.scan(body, x, weights)
    with jax.named_scope("back"):
        back, others = jax.lax.scan(body, there, weights, reverse=True)
    return checkpoint_name(back + ys.sum(0) - 3.0 * others[0], "end")


@pytest.mark.parametrize("execution", [Execution.FUSED, Execution.STAGED])
def test_scans_that_are_no_modules(
    execution: Execution, function_lab: Callable[..., Lab], batch: Callable[..., np.ndarray]
) -> None:
    x = batch(4)
    lab = function_lab(lambda _, inputs: both_ways(inputs["x"]))
    weights = np.arange(12, dtype=np.float32).reshape(3, 4) / 10
    expected: dict[str, np.ndarray] = {}
    carry = x
    for name, order in (("there", (0, 1, 2)), ("back", (2, 1, 0))):
        for index in order:
            carry = expected[f"{name}[{index}]/state"] = np.tanh(carry + weights[index])
    named = [site.path for site in lab.engine.sites if site.kind is SiteKind.NAMED and "*" not in site.path]
    assert named == [*expected, "end"]
    everything = lab.capture("**", x=x, kinds=[SiteKind.NAMED], execution=execution)
    for path, value in expected.items():
        close(everything[path], value)
        close(lab.capture(path, x=x, execution=execution)[path], value)
    close(everything["end"], lab.predict(x)[0])
    some = lab.capture("back[1]/state", "there[*]/state", "end", x=x, execution=execution)
    close(some["end"], lab.predict(x)[0])
    close(some["back[1]/state"], expected["back[1]/state"])
    stacked = np.stack([expected[f"there[{index}]/state"] for index in range(3)])
    close(some["there[*]/state"], stacked)


class NnxBlock(nnx.Module):
    """A block of NNX."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.linear = nnx.Linear(4, 4, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + jnp.tanh(self.linear(x))


class NnxStack(nnx.Module):
    """Blocks of NNX under its own scan."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        make: Any = nnx.split_rngs(splits=3)(nnx.vmap(NnxBlock))
        self.layers = make(rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        def one(x: jax.Array, block: NnxBlock) -> jax.Array:
            return block(x)

        scanned: jax.Array = nnx.scan(one, in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(x, self.layers)
        return scanned


@pytest.mark.parametrize("execution", [Execution.FUSED, Execution.STAGED])
def test_the_scan_of_nnx(
    execution: Execution, config: Callable[..., ModelConfig], batch: Callable[..., np.ndarray]
) -> None:
    x = batch(4)
    module = NnxStack(nnx.Rngs(0))
    network = nnx_network(module, config())
    engine = Engine(network, nnx.to_pure_dict(nnx.state(module, nnx.Param)), buckets=[4])
    paths = [site.path for site in engine.sites if site.kind is SiteKind.MODULE and "*" not in site.path]
    assert paths == [f"layers[{layer}]{name}" for layer in range(3) for name in ("/linear", "")] + ["__call__"]
    inspection = engine.inspect([Capture(sites=("layers[?]",), reductions=(Full(),))], [], rows=4, execution=execution)
    stages = engine.run(engine.program(inspection.plan).result(60), [x], inspection)
    carry = x
    weights = nnx.to_pure_dict(nnx.state(module, nnx.Param))["layers"]["linear"]
    kernel, bias = np.asarray(weights["kernel"]), np.asarray(weights["bias"])
    for layer, (value,) in enumerate(itertools.chain.from_iterable(stages)):
        carry = carry + np.tanh(carry @ kernel[layer] + bias[layer])
        close(value, carry)


def test_a_long_loop_is_listed_stacked_only(function_lab: Callable[..., Lab], batch: Callable[..., np.ndarray]) -> None:
    def network(_: Any, inputs: dict[str, jax.Array]) -> Any:
        def body(carry: jax.Array, _: Any) -> Any:
            return checkpoint_name(carry + 1.0, "count"), None

        return jax.lax.scan(body, inputs["x"], length=30_000)[0]

    lab, x = function_lab(network), batch(4)
    assert len(lab.engine.sites) < 10
    (path,) = [site.path for site in lab.engine.sites if site.kind is SiteKind.NAMED]
    captured = lab.capture("**", x=x, kinds=[SiteKind.NAMED], slices=[Slice(axis=0, start=17, stop=18)])
    np.testing.assert_allclose(captured[path], x[None] + 18.0, rtol=1e-4)


def _twice(w: jax.Array, x: jax.Array, zeros: tuple[Any, Any] | None = None) -> jax.Array:
    """Runs one loop twice; JAX keeps one body for both."""

    def body(carry: jax.Array, own: Any) -> Any:
        carry = checkpoint_name(carry if zeros is None else carry + own[1], "enters")
        return jnp.tanh(carry * (own if zeros is None else own[0])[None]), None

    for place in range(2):
        x, _ = jax.lax.scan(body, x, w if zeros is None else (w, zeros[place]))
        x = checkpoint_name(x, f"loop{place}")
    return x


def test_a_loop_that_runs_twice_is_two_loops(
    function_lab: Callable[..., Lab], batch: Callable[..., np.ndarray]
) -> None:
    """Edits are written in the one that they name, and each has its own gradient."""
    w, x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32), batch(4)
    lab = function_lab(lambda variables, inputs: _twice(variables["w"], inputs["x"]), {"w": w})
    edits = [Edit(sites=("scan:1[1]/enters",), change=Zero())]
    edited = lab.capture("loop?", "scan:*[1]/enters", x=x, edits=edits)
    clean = lab.capture("loop0", "scan:0[1]/enters", x=x)
    assert not edited.pop("scan:1[1]/enters").any()
    assert not edited.pop("loop1").any()
    for path, value in edited.items():
        np.testing.assert_array_equal(value, clean[path])
    zeros = (jnp.zeros((3, *x.shape)), jnp.zeros((3, *x.shape)))
    expected = jax.grad(lambda zeros: jnp.sum(_twice(jnp.asarray(w), jnp.asarray(x), zeros)[:, 1]))(zeros)
    asked = Gradient(output="output", objective=Objective.LOGIT, indices=np.array(1))
    found = lab.capture("scan:*[1]/enters", x=x, gradient=asked)
    for place in range(2):
        close(found[f"scan:{place}[1]/enters"], expected[place][1])


@pytest.mark.parametrize("lengths", [(0,), (0, 2), (2, 0)], ids=str)
def test_a_loop_without_iterations_has_empty_values(
    lengths: tuple[int, ...], function_lab: Callable[..., Lab], batch: Callable[..., np.ndarray]
) -> None:
    def looped(x: jax.Array, lengths: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
        def body(carry: jax.Array, _: Any) -> Any:
            carry = looped(carry, lengths[1:])[0] if len(lengths) > 1 else carry
            carry = checkpoint_name(carry + 1.0, f"count{len(lengths)}")
            return carry, carry

        return jax.lax.scan(body, x, length=lengths[0])

    def network(_: Any, inputs: dict[str, jax.Array]) -> Any:
        carry, ys = looped(inputs["x"], lengths)
        return carry + jnp.sum(ys, axis=0)

    lab, x = function_lab(network), batch(4)
    named = {site.path: site for site in lab.engine.sites if site.kind is SiteKind.NAMED}
    inner = [path for path, site in named.items() if 0 in site.shape]
    assert inner
    found = lab.capture(*inner, x=x, outputs=["output"])
    edited = lab.capture(*inner, x=x, outputs=["output"], edits=[Edit(sites=(inner[0],), change=Zero())])
    for path in inner:
        assert found[path].shape == edited[path].shape == tuple(4 if size < 0 else size for size in named[path].shape)
    for captured in (found, edited):
        np.testing.assert_array_equal(captured["output"], lab.predict(x)[0])
