"""The engine as a whole: captures are what the network computes, bit for bit, and cost what they must."""

from __future__ import annotations

import itertools
import math
import threading
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.ad_checkpoint import checkpoint_name

from fluoroscope_server.engine import Capture, Engine, Full, SiteKind, Statistics
from fluoroscope_server.engine import engine as engine_module
from fluoroscope_server.engine.difference import PairSpec
from fluoroscope_server.errors import LimitExceededError, NotCapturableError
from fluoroscope_server.families.activation import ACTIVATIONS
from fluoroscope_server.families.base_network import BaseNetwork
from fluoroscope_server.families.function import PureFunction, function_network

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.server.engine.conftest import Lab

    from fluoroscope_server.engine import Inspection, Program
    from fluoroscope_server.model_config import ModelConfig


def seed_network(act_fn: str, *sizes: int) -> BaseNetwork:
    return BaseNetwork(act_fn=ACTIVATIONS[act_fn], hidden_sizes=sizes, num_classes=3)


@pytest.mark.parametrize("act_fn", ACTIVATIONS)
def test_activations_are_those_that_the_network_returns(
    act_fn: str, linen_lab: Callable[..., Lab], batch: Callable[..., np.ndarray]
) -> None:
    """Before and after the activation function of every layer, and the logits; equal in every bit."""
    module, x = seed_network(act_fn, 8, 6), batch(4)
    lab = linen_lab(module)
    apply = jax.jit(lambda variables, x: module.apply(variables, x, return_activations=True))
    logits, activations = apply(lab.variables, x)
    captured = lab.capture("activations/*", x=x)
    assert list(captured) == [f"activations/{index}" for index in range(2 * 2 + 1)]
    for mine, theirs in zip(captured.values(), activations, strict=True):
        np.testing.assert_array_equal(mine, theirs, strict=True)
    everything = lab.capture("**", x=x, outputs=["output"])
    for mine in (lab.predict(x)[0], captured["activations/4"], everything["output"]):
        np.testing.assert_array_equal(mine, logits, strict=True)


def test_activations_by_the_names_of_modules_and_functions(
    linen_lab: Callable[..., Lab], batch: Callable[..., np.ndarray]
) -> None:
    """So they are found in a network that names nothing."""
    module, x = seed_network("relu", 8, 6), batch(4)
    lab = linen_lab(module)
    _, activations = jax.jit(lambda variables, x: module.apply(variables, x, return_activations=True))(lab.variables, x)
    captured = lab.capture("Dense_?", "relu:?", x=x)
    assert list(captured) == ["Dense_0", "relu:0", "Dense_1", "relu:1", "Dense_2"]
    for mine, theirs in zip(captured.values(), activations, strict=True):
        np.testing.assert_array_equal(mine, theirs, strict=True)


def test_the_seeds_own_sizes(linen_lab: Callable[..., Lab], batch: Callable[..., np.ndarray]) -> None:
    module, x = BaseNetwork(act_fn=ACTIVATIONS["swish"]), batch(4)
    lab = linen_lab(module)
    _, activations = jax.jit(lambda variables, x: module.apply(variables, x, return_activations=True))(lab.variables, x)
    captured = lab.capture("activations/*", x=x)
    assert len(captured) == 9
    for mine, theirs in zip(captured.values(), activations, strict=True):
        np.testing.assert_array_equal(mine, theirs, strict=True)


class Attention(nn.Module):
    """Softmax inside attention, layer norm, remat, and a jit inside."""

    @nn.compact
    def __call__(self, x: jax.Array) -> Any:
        x = nn.Dense(8)(x).reshape(x.shape[0], 2, 4)
        x = x + nn.MultiHeadDotProductAttention(num_heads=2)(nn.LayerNorm()(x))
        x = nn.remat(nn.Dense)(4)(x)
        return jax.jit(nn.gelu)(checkpoint_name(x, "late")).reshape(x.shape[0], -1)


@pytest.fixture(scope="module")
def attention(linen_lab: Callable[..., Lab]) -> Lab:
    return linen_lab(Attention(), buckets=(1, 4))


@pytest.fixture(scope="module")
def relu(linen_lab: Callable[..., Lab]) -> Lab:
    return linen_lab(seed_network("relu", 8, 6), buckets=(1, 4))


@pytest.mark.parametrize("question", ["Dense_*", "activations/*", "**"])
def test_outputs_have_the_same_bits_with_and_without_captures(
    question: str, relu: Lab, batch: Callable[..., np.ndarray]
) -> None:
    x = batch(3)
    for reduction in (Full(), Statistics()):
        captured = relu.capture(question, x=x, outputs=["output"], reductions=[reduction])
        np.testing.assert_array_equal(captured["output"], relu.predict(x)[0], strict=True)


def test_captures_do_not_move_outputs_by_a_bit(attention: Lab, batch: Callable[..., np.ndarray]) -> None:
    """XLA fuses other equations together when more values leave a program: outputs come from that of `Predict`."""
    x = batch(3)
    captured = attention.capture("**", x=x, outputs=["output"])
    np.testing.assert_array_equal(captured["output"], attention.predict(x)[0])


def test_every_site_can_be_captured_alone_or_together(attention: Lab, batch: Callable[..., np.ndarray]) -> None:
    x = batch(4)
    captured = attention.capture("**", x=x)
    assert list(captured) == [site.path for site in attention.engine.sites if not site.reason]
    for path, value in captured.items():
        site = attention.engine.sites[path]
        assert isinstance(value, np.ndarray)
        assert value.dtype == site.dtype
        assert value.shape == tuple(4 if size == -1 else size for size in site.shape)
    for path in ("LayerNorm_0", "MultiHeadDotProductAttention_0/query"):
        alone = attention.capture(path, x=x)[path]
        np.testing.assert_allclose(np.asarray(alone), np.asarray(captured[path]), rtol=1e-4, atol=1e-5)


def test_a_softmax_inside_attention(attention: Lab, batch: Callable[..., np.ndarray]) -> None:
    """A value that no module returns: the weights of attention, which sum to one."""
    (weights,) = attention.capture("**/MultiHeadDotProductAttention_0/softmax:0", x=batch(3)).values()
    assert isinstance(weights, np.ndarray)
    assert weights.shape == (3, 2, 2, 2)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)


def test_kinds(attention: Lab) -> None:
    inspection = attention.inspect("**", kinds=[SiteKind.MODULE, SiteKind.NAMED])
    assert {result.site.kind for result in inspection.results if result.site} == {SiteKind.MODULE, SiteKind.NAMED}
    assert [result.name for result in attention.inspect("**", kinds=[SiteKind.NAMED]).results] == ["late"]


def test_padding_is_cut_off(relu: Lab, batch: Callable[..., np.ndarray]) -> None:
    x = batch(3)
    for path, value in relu.capture("**", x=x, padding=np.nan, outputs=["output"]).items():
        assert isinstance(value, np.ndarray)
        assert not np.isnan(value).any(), path
    alone = relu.capture("**", x=x[:1])
    together = relu.capture("**", x=x)
    for path, value in alone.items():
        np.testing.assert_allclose(np.asarray(together[path])[: len(np.asarray(value))], value, rtol=1e-5, atol=1e-6)


@settings(deadline=None, max_examples=12)
@given(data=st.data())
def test_any_question_gets_what_the_whole_answer_has(data: st.DataObject, relu: Lab) -> None:
    """Each subset of sites, in any order, with any number of rows."""
    rows = data.draw(st.integers(1, 4))
    paths = [site.path for site in relu.engine.sites if not site.reason]
    chosen = data.draw(st.lists(st.sampled_from(paths), min_size=1, max_size=3))
    x = np.random.default_rng(rows).normal(size=(rows, 4)).astype(np.float32)
    captured = relu.capture(*chosen, x=x)
    assert list(captured) == [path for path in paths if path in chosen]
    whole = relu.capture("**", x=x)
    for path, value in captured.items():
        np.testing.assert_allclose(np.asarray(value), np.asarray(whole[path]), rtol=1e-5, atol=1e-6)


def count_flops(program: Program) -> float:
    """Returns the floating-point operations of a program, as the compiler itself counts them."""
    analyses = [stage.executable.cost_analysis() for stage in program.stages]
    return sum(float(each.get("flops", 0)) for each in analyses)


def flops(lab: Lab, inspection: Inspection) -> float:
    return count_flops(lab.program(inspection))


def test_a_capture_costs_its_part_of_the_network(linen_lab: Callable[..., Lab]) -> None:
    lab = linen_lab(seed_network("relu", 16, 16, 16, 16))
    costs = [flops(lab, lab.inspect(f"Dense_{layer}")) for layer in range(5)]
    whole = flops(lab, lab.inspect("__call__"))
    layer = 2 * 4 * 16 * 16  # a multiply and an add for each weight and row
    assert all(later - sooner >= layer for sooner, later in itertools.pairwise(costs[:4]))
    assert costs == sorted(costs)
    assert costs[0] < 2.5 * (2 * 4 * 4 * 16)
    assert costs[4] == pytest.approx(whole, rel=0.02)


def test_what_nobody_asked_for_is_not_computed(function_lab: Callable[..., Lab]) -> None:
    def network(variables: dict[str, jax.Array], inputs: dict[str, jax.Array]) -> Any:
        early = checkpoint_name(jnp.sin(inputs["x"]), "early")
        return early @ variables["large"]

    lab = function_lab(network, {"large": np.ones((4, 5000), np.float32)})
    assert flops(lab, lab.inspect("early")) < 4 * 4 * 20
    assert flops(lab, lab.inspect("**")) > 4 * 4 * 5000


def test_a_bucket_for_any_number_of_rows(relu: Lab) -> None:
    assert [relu.engine.bucket_for(rows) for rows in (1, 2, 3, 4)] == [1, 4, 4, 4]
    with pytest.raises(LimitExceededError, match="the inputs have 5 rows, and the largest bucket of this model has 4"):
        relu.engine.bucket_for(5)
    with pytest.raises(LimitExceededError) as caught:
        relu.engine.inspect([Capture(sites=("Dense_0",))], [], rows=99)
    assert (caught.value.field, caught.value.reason) == ("inputs", "TOO_MANY_ROWS")


def test_predict_is_compiled_for_each_bucket_and_nothing_else(linen_lab: Callable[..., Lab]) -> None:
    lab = linen_lab(seed_network("tanh", 5), buckets=(1, 2, 4))
    assert len(lab.compiled) == 3
    assert all(seconds > 0 for seconds in lab.compiled)
    lab.predict(np.zeros((3, 4), np.float32))
    assert len(lab.compiled) == 3


def test_inspections_and_comparisons_wait_for_one_compiler(config: Callable[..., ModelConfig]) -> None:
    opened = threading.Event()
    opened.set()

    def hold(_: float) -> None:
        assert opened.wait(60)

    network = function_network(PureFunction(apply=lambda _, inputs: inputs["x"] * 2, variables={}), config())
    engine = Engine(network, {}, buckets=(4,), max_compiles=1, on_compile=hold)
    opened.clear()
    running = engine.program(engine.inspect([Capture(sites=("mul:0",))], [], rows=4).plan)
    pairs = frozenset([PairSpec(dtypes=(np.dtype("f4"),) * 2, shapes=((4, 4),) * 2, batch_axis=0)])
    with pytest.raises(LimitExceededError, match="the limit is 1: "):
        engine.differences(pairs)
    opened.set()
    running.result(60)
    assert set(engine.differences(pairs).result(60).executables) == pairs
    engine.close()


def test_buckets_behind_a_slow_one_are_not_warmed_up(
    linen_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = linen_lab(seed_network("tanh", 5), buckets=(1, 2, 4)).engine
    monkeypatch.setattr(engine_module, "SLOW_SECONDS", 0.0)
    engine.warm_up()
    assert [math.isfinite(seconds) for seconds in engine.seconds.values()] == [True, False, False]
    monkeypatch.undo()
    engine.warm_up()
    assert all(math.isfinite(seconds) for seconds in engine.seconds.values())


def squared(x: jax.Array) -> jax.Array:
    """Returns the square of each matrix, as newer JAX computes `x @ x`: an axis of size one is left away."""
    if len(x) == 1:
        return jax.lax.dot_general(x[0], x[0], (((1,), (0,)), ((), ())))[None]
    return jax.lax.dot_general(x, x, (((2,), (1,)), ((0,), (0,))))


@pytest.mark.parametrize("buckets", [(1, 4), (1, 2, 4), (4,)])
def test_what_a_batch_of_one_computes_otherwise(
    buckets: tuple[int, ...], function_lab: Callable[..., Lab], batch: Callable[..., np.ndarray]
) -> None:
    """`@` leaves a batch axis of size one away: one row runs in a larger bucket then."""

    def network(_: Any, inputs: dict[str, jax.Array]) -> Any:
        x = inputs["x"].reshape(-1, 2, 2)
        return jnp.tanh(squared(x)).reshape(-1, 4)

    lab = function_lab(network, buckets=buckets)
    for rows in (1, 2, 3):
        x = batch(rows)
        squares = x.reshape(-1, 2, 2) @ x.reshape(-1, 2, 2)
        inspection = lab.inspect("dot_general:0", rows=rows)
        assert inspection.plan.bucket >= 2
        (value,) = lab.run(inspection, x)
        np.testing.assert_allclose(np.asarray(value), squares, rtol=1e-5)
        np.testing.assert_allclose(lab.predict(x)[0], np.tanh(squares).reshape(-1, 4), rtol=1e-5)


def test_a_network_that_mixes_rows_and_computes_one_row_otherwise(function_lab: Callable[..., Lab]) -> None:
    def network(_: Any, inputs: dict[str, jax.Array]) -> Any:
        x = inputs["x"].reshape(-1, 2, 2)
        return squared(x).reshape(-1, 4) - inputs["x"].mean(0, keepdims=True)

    lab = function_lab(network, buckets=(1, 2, 4))
    assert lab.inspect("dot_general:0", rows=2).plan.bucket == 2
    with pytest.raises(NotCapturableError, match=r"a batch of 1 is computed in another way.* send 2 rows or more"):
        lab.inspect("dot_general:0", rows=1)


def test_sizes(relu: Lab) -> None:
    count = (4 * 8 + 8) + (8 * 6 + 6) + (6 * 3 + 3)
    assert relu.engine.parameter_count == count
    assert relu.engine.parameter_bytes == 4 * count
    assert relu.engine.device == "cpu"
    inspection = relu.inspect("Dense_0", "Dense_1", rows=3)
    assert inspection.byte_size == 3 * (8 + 6) * 4


def test_several_inputs_and_outputs(function_lab: Callable[..., Lab], batch: Callable[..., np.ndarray]) -> None:
    def network(_: object, inputs: dict[str, jax.Array]) -> dict[str, jax.Array]:
        named = checkpoint_name(inputs["a"] - inputs["b"], "difference")
        return {"sum": inputs["a"] + inputs["b"], "difference": named}

    lab = function_lab(network, inputs={"b": {"shape": [4]}, "a": {"shape": [4]}})
    b, a = batch(4), batch(4) * 2
    difference, added = lab.predict(b, a)  # in the order of the signature: that of the keys
    np.testing.assert_array_equal(difference, a - b)
    np.testing.assert_array_equal(added, a + b)
    inspection = lab.inspect("difference", outputs=["sum", "difference"])
    assert [result.name for result in inspection.results] == ["difference", "difference", "sum"]
    site, first, second = lab.run(inspection, b, a)
    np.testing.assert_array_equal(site, first)
    np.testing.assert_array_equal(second, a + b)


def test_values_that_are_inputs_or_constants(
    function_lab: Callable[..., Lab], batch: Callable[..., np.ndarray]
) -> None:
    def network(variables: dict[str, jax.Array], inputs: dict[str, jax.Array]) -> Any:
        x = checkpoint_name(inputs["x"], "input")
        w = checkpoint_name(variables["w"], "weight")
        return x * w[None] * checkpoint_name(jnp.float32(2), "two")

    lab = function_lab(network, {"w": np.arange(4, dtype=np.float32)})
    x = batch(3)
    captured = lab.capture("input", "weight", "two", x=x, outputs=["output"])
    np.testing.assert_array_equal(captured["input"], x)
    np.testing.assert_array_equal(captured["weight"], np.arange(4, dtype=np.float32))
    np.testing.assert_array_equal(captured["two"], np.float32(2))
    np.testing.assert_array_equal(captured["output"], x * np.arange(4, dtype=np.float32) * 2)


def test_loops_and_mutable_arrays_and_prints(
    function_lab: Callable[..., Lab], batch: Callable[..., np.ndarray]
) -> None:
    def network(_: object, inputs: dict[str, jax.Array]) -> Any:
        x = inputs["x"]
        jax.debug.print("{}", x)
        x, _ = jax.lax.scan(lambda carry, _: (carry * 2.0, None), x, length=3)
        reference = jax.new_ref(x)
        reference[...] = reference[...] + 1.0
        return jax.lax.cond(x[0, 0] > 1e9, jnp.sin, jnp.abs, reference[...])

    lab = function_lab(network)
    x = batch(4)
    captured = lab.capture("**", x=x, outputs=["output"])
    np.testing.assert_allclose(captured["scan:0"], 8 * x)
    np.testing.assert_allclose(captured["cond:0"], np.abs(8 * x + 1), rtol=1e-6)
    np.testing.assert_array_equal(captured["output"], captured["cond:0"])


@pytest.mark.parametrize(
    "dtype", ["bfloat16", "float16", "float8_e4m3fn", "int8", "uint8", "bool", "complex64", "int4"]
)
def test_other_types(dtype: str, function_lab: Callable[..., Lab]) -> None:
    def network(_: object, inputs: dict[str, jax.Array]) -> Any:
        return checkpoint_name(inputs["x"][:, ::-1], "reversed")

    lab = function_lab(network, inputs={"x": {"shape": [3], "dtype": dtype}})
    x = np.array([[0, 1, 0], [1, 1, 0]]).astype(jnp.dtype(dtype))
    np.testing.assert_array_equal(lab.capture("reversed", x=x)["reversed"], x[:, ::-1], strict=True)
