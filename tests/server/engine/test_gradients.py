"""Gradients: those that JAX computes of the same network, instrumented by hand, with respect to anything in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from fluoroscope_server.engine import (
    Edit,
    Engine,
    Execution,
    Full,
    Gradient,
    Histogram,
    MeanAblate,
    Norm,
    Objective,
    PatchFromInputs,
    Scale,
    SiteKind,
    SiteStatistics,
    Statistics,
    Zero,
    common,
)
from fluoroscope_server.engine.inspection import MOST_RESULTS
from fluoroscope_server.errors import InvalidRequestError, LimitExceededError, NotCapturableError, NotFoundError
from fluoroscope_server.families.nnx import nnx_network

from .instrumented import LAYERS, Stack, as_float64, by_hand

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.server.engine.conftest import Lab

    from fluoroscope_server.model_config import ModelConfig

ROWS = 3
MODULES = [SiteKind.MODULE]


@pytest.fixture(scope="module")
def stack(linen_lab: Callable[..., Lab]) -> Lab:
    return linen_lab(Stack(), buckets=(1, 4))


def gradient(*indices: int, objective: Objective = Objective.LOGIT, **more: Any) -> Gradient:
    whole = indices[0] if len(indices) == 1 else indices
    return Gradient(output="output", objective=objective, indices=np.array(whole), **more)


def loss(logits: jax.Array, labels: np.ndarray, objective: Objective) -> jax.Array:
    scores = logits if objective is Objective.LOGIT else -jax.nn.log_softmax(logits)
    return jnp.sum(scores[jnp.arange(len(labels)), labels])


def hand_gradients(
    lab: Lab, x: np.ndarray, labels: np.ndarray, objective: Objective, edit: Any = lambda _, value: value
) -> tuple[dict[str, Any], Any, Any]:
    """Returns the gradients with respect to each value, by path, to the parameters and to the input."""
    params = lab.variables["params"]
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        zeros = {path: np.zeros_like(value) for path, value in by_hand(params, x, relu=nn.relu).items()}

        def scalar(zeros: Any, params: Any, x: Any) -> jax.Array:
            found = by_hand(params, x, lambda path, value: edit(path, value) + zeros[path], nn.relu)
            return loss(found["head"], labels, objective)

        found: tuple[dict[str, Any], Any, Any] = jax.grad(scalar, argnums=(0, 1, 2))(zeros, params, x)
    found[0]["__call__"] = found[0]["head"]
    return found


def close(mine: Any, theirs: Any, path: str = "") -> None:
    np.testing.assert_allclose(np.asarray(mine), np.asarray(theirs), rtol=1e-4, atol=1e-5, err_msg=path)


@pytest.mark.parametrize("objective", Objective)
def test_with_respect_to_sites_inputs_and_parameters(
    stack: Lab, batch: Callable[..., np.ndarray], objective: Objective
) -> None:
    """Outside of loops and in them, alone and stacked, whatever is in rows that only fill the bucket."""
    x, labels = batch(ROWS), np.array([2, 0, 1])
    asked = gradient(*labels, objective=objective, inputs=("x",), parameters=("params/**",))
    captured = stack.capture("**", "layers[*]", x=x, padding=9.0, kinds=MODULES, gradient=asked)
    values, params, inputs = hand_gradients(stack, x, labels, objective)
    leaves = {
        "params/" + jax.tree_util.keystr(place, simple=True, separator="/"): leaf
        for place, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    assert list(captured)[: 1 + len(leaves)] == ["inputs/x", *leaves]
    close(captured.pop("inputs/x"), inputs)
    close(captured.pop("layers[*]"), np.stack([values[f"layers[{layer}]"] for layer in range(LAYERS)]))
    for path, leaf in leaves.items():
        close(captured.pop(path), leaf, path)
    assert set(captured) == {path for path in values if "relu" not in path}
    for path, value in captured.items():
        close(value, values[path], path)


def test_in_the_edited_network(stack: Lab, batch: Callable[..., np.ndarray]) -> None:
    """Values behind edits, outputs too; and nothing flows through what was overwritten."""
    x, labels = batch(ROWS), np.array([1, 1, 1])
    edits = [
        Edit(sites=("layers[1]/up",), change=Scale(factor=np.array(-2.0))),
        Edit(sites=("layers[2]",), change=Zero(), units=(0,)),
        Edit(sites=("layers[3]/down",), change=MeanAblate(), units=(1,)),
        Edit(sites=("embed",), change=PatchFromInputs(inputs={"x": batch(4)[:1]}), rows=(0,)),
    ]
    clean = by_hand(as_float64(stack.variables), batch(4)[:1].astype(np.float64))["embed"].astype(np.float32)

    def edit(path: str, value: Any) -> Any:
        if path == "embed":
            return jnp.concatenate([jnp.asarray(clean), value[1:]])
        if path == "layers[2]":
            return value * jnp.array([0, 1, 1, 1])
        if path == "layers[3]/down":
            return jnp.where(jnp.arange(4) == 1, jnp.asarray(value).mean(0), value)
        return value * -2 if path == "layers[1]/up" else value

    question: dict[str, Any] = {"kinds": MODULES, "edits": edits, "outputs": ["output"]}
    captured = stack.capture("**", x=x, padding=9.0, gradient=gradient(1, inputs=("*",)), **question)
    values, _, inputs = hand_gradients(stack, x, labels, Objective.LOGIT, edit)
    assert not np.asarray(captured["inputs/x"])[0].any()
    close(captured.pop("inputs/x"), inputs)
    close(captured.pop("output"), stack.capture("head", x=x, edits=edits)["head"])
    for path, value in captured.items():
        close(value, values[path], path)


def test_reduced_and_padded(stack: Lab, batch: Callable[..., np.ndarray]) -> None:
    """Each row's gradient is its own: one row alone has the same, and reductions count real rows only."""
    x = batch(ROWS)
    both = (Norm(axes=()), Full())
    asked = gradient(2, 0, 1, inputs=("x",), parameters=("params/head/kernel",), reductions=both)
    whole = stack.capture("embed", "layers[2]", x=x, gradient=gradient(2, 0, 1))
    alone = stack.capture("embed", "layers[2]", x=x[1:2], gradient=gradient(0))
    for path, value in whole.items():
        close(value[1:2], alone[path], path)
    inspection = stack.inspect("embed", rows=ROWS, reductions=[Statistics()], gradient=asked)
    norm_of_input, input_, norm_of_kernel, kernel, statistics = stack.run(inspection, x, padding=9.0)
    assert isinstance(statistics, SiteStatistics)
    assert statistics.count == ROWS * 4
    assert statistics.l2_norm == pytest.approx(np.linalg.norm(whole["embed"]), rel=1e-4)
    _, params, inputs = hand_gradients(stack, x, np.array([2, 0, 1]), Objective.LOGIT)
    for norm, gradients, expected in (
        (norm_of_input, input_, inputs),
        (norm_of_kernel, kernel, params["head"]["kernel"]),
    ):
        close(gradients, expected)
        close(norm, np.linalg.norm(expected))


@pytest.mark.parametrize("edit", ["none", "patched", "scaled"])
def test_rows_that_only_fill_the_bucket_make_no_gradient_nan(
    function_lab: Callable[..., Lab], batch: Callable[..., np.ndarray], edit: str
) -> None:
    """Where a derivative is infinite at zeros: of what is written by edits, too."""

    def network(variables: Any, inputs: dict[str, jax.Array]) -> Any:
        hidden = checkpoint_name(inputs["x"] @ variables["w"], "hidden")
        return hidden / jnp.linalg.norm(hidden, axis=-1, keepdims=True)

    changes: dict[str, Any] = {
        "patched": PatchFromInputs(inputs={"x": batch(ROWS) + 1.0}),
        "scaled": Scale(factor=np.array([[1.0], [2.0], [3.0]])),
    }
    lab = function_lab(network, {"w": np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)})
    edits = [Edit(sites=("hidden",), change=changes[edit])] if edit in changes else []
    asked = gradient(1, parameters=("w",))
    whole = lab.capture("hidden", x=batch(ROWS), edits=edits, gradient=asked)
    assert np.isfinite(whole["hidden"]).all()
    assert np.isfinite(whole["w"]).all()
    if edit == "none":
        x = jnp.asarray(batch(ROWS))
        close(whole["w"], jax.grad(lambda w: jnp.sum(network({"w": w}, {"x": x})[:, 1]))(lab.variables["w"]))


def test_a_negative_index_leaves_a_row_out(stack: Lab, batch: Callable[..., np.ndarray]) -> None:
    captured = stack.capture("head", x=batch(ROWS), gradient=gradient(2, -1, 1))["head"]
    assert captured.tolist() == [[0, 0, 1], [0, 0, 0], [0, 1, 0]]


def test_other_indices_are_the_same_program_and_sites_only_another(
    stack: Lab, batch: Callable[..., np.ndarray]
) -> None:
    x = batch(ROWS)
    stack.capture("embed", x=x, gradient=gradient(0))
    compiled = len(stack.compiled)
    first, second = (stack.capture("embed", x=x, gradient=gradient(*each))["embed"] for each in ((1,), (2, 1, 0)))
    assert len(stack.compiled) == compiled
    assert not np.array_equal(first, second)
    plan = stack.inspect("embed", gradient=gradient(0), execution=Execution.STAGED).plan
    assert plan == stack.inspect("embed", gradient=gradient(1)).plan != stack.inspect("embed").plan
    assert common(stack.inspect("embed", gradient=gradient(1))) is None


def test_outputs_beside_a_gradient_are_those_of_predict(stack: Lab, batch: Callable[..., np.ndarray]) -> None:
    x = batch(4)
    captured = stack.capture("embed", x=x, gradient=gradient(0), outputs=["output"])
    np.testing.assert_array_equal(captured["output"], stack.predict(x)[0], strict=True)


def test_the_cost_is_more_than_that_of_the_network(stack: Lab) -> None:
    """Forwards, and backwards as far as the earliest site: about twice the work of what lies between."""

    def flops(site: str) -> float:
        return stack.engine.cost(stack.inspect(site, gradient=gradient(0))).flops

    whole = stack.engine.cost(stack.inspect("__call__")).flops
    assert whole < flops("head") < flops("embed") < 4 * whole
    assert stack.program(stack.inspect("embed", gradient=gradient(0))).flops == flops("embed")


@jax.custom_vjp
def reversed_gradient(x: jax.Array) -> jax.Array:
    """Passes through, and gives back the gradient with the other sign."""
    return x


reversed_gradient.defvjp(lambda x: (x, None), lambda _, given: (-given,))


@jax.custom_vjp
def rounded(x: jax.Array) -> jax.Array:
    """Rounds, and gives back the gradient as it is."""
    return jnp.round(x)


rounded.defvjp(lambda x: (jnp.round(x), None), lambda _, given: (given,))


def test_functions_keep_the_derivatives_that_their_authors_wrote(
    function_lab: Callable[..., Lab], batch: Callable[..., np.ndarray]
) -> None:
    """Of relu at zero, too; and whatever is captured or edited."""

    def network(variables: Any, inputs: dict[str, jax.Array]) -> Any:
        x = checkpoint_name(inputs["x"] * variables["w"][None], "scaled")
        x = checkpoint_name(reversed_gradient(x), "reversed")
        x = checkpoint_name(rounded(jax.nn.softplus(x) * 3.0), "rounded")
        return jax.nn.relu(x - 3.0) + jax.nn.silu(x)

    w, x = np.array([1, 2, 0, -1], np.float32), batch(4)
    lab = function_lab(network, {"w": w})

    def scalar(x: Any) -> Any:
        return jnp.sum(network({"w": jnp.asarray(w)}, {"x": x})[:, 1] + network({"w": jnp.asarray(w)}, {"x": x})[:, 2])

    expected = jax.grad(scalar)(jnp.asarray(x))
    two = [
        lab.capture("scaled", "reversed", "rounded", x=x, gradient=gradient(index, inputs=("x",))) for index in (1, 2)
    ]
    close(sum(each["inputs/x"] for each in two), expected)
    for each in two:
        close(each["scaled"], -each["reversed"])
    assert np.asarray(expected).any()
    at_zero = np.full((4, 4), 0.0, np.float32)  # softplus(0) * 3 is 2.08, and rounded - 3 is below zero
    close(lab.capture("scaled", x=at_zero, gradient=gradient(1))["scaled"][:, 0], np.zeros(4))
    with pytest.raises(
        NotCapturableError, match=r"site 'softplus:0/.*: it is inside a function whose derivative its author"
    ):
        lab.inspect("softplus:0/logaddexp:0/exp:0", gradient=gradient(0))
    edits = [Edit(sites=("softplus:0/logaddexp:0/exp:0",), change=Scale(factor=np.array(1.0)))]
    close(lab.capture("reversed", x=x, edits=edits, gradient=gradient(1))["reversed"], two[0]["reversed"])
    assert {"relu:0", "softplus:0"} <= {spec.name for spec in lab.inspect("**", gradient=gradient(0)).results}


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_of_an_output_of_small_floats(
    function_lab: Callable[..., Lab], batch: Callable[..., np.ndarray], dtype: str
) -> None:
    lab = function_lab(lambda _, inputs: (checkpoint_name(inputs["x"], "x") * 2.0).astype(dtype))
    assert lab.capture("x", x=batch(ROWS), gradient=gradient(1))["x"].tolist() == [[0.0, 2.0, 0.0, 0.0]] * ROWS


def test_relu_at_zero(function_lab: Callable[..., Lab]) -> None:
    """JAX says 0 there, and of the maximum in it one half."""
    lab = function_lab(lambda _, inputs: jax.nn.relu(checkpoint_name(inputs["x"] * 1.0, "before")))
    captured = lab.capture("before", x=np.zeros((4, 4), np.float32), gradient=gradient(1))
    assert not captured["before"].any()


def test_of_nnx(config: Callable[..., ModelConfig], batch: Callable[..., np.ndarray]) -> None:
    class Model(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.first, self.second = nnx.Linear(4, 5, rngs=rngs), nnx.Linear(5, 3, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.second(jnp.tanh(self.first(x)))

    model: Any = Model(nnx.Rngs(0))
    adapted = nnx_network(model, config())
    leaves = jax.tree.leaves(nnx.state(model))
    engine = Engine(adapted, jax.tree.unflatten(jax.tree.structure(adapted.variables), leaves), buckets=(4,))
    x = batch(4)
    asked = gradient(1, inputs=("x",), parameters=("first/kernel",))
    inspection = engine.inspect([], (), rows=4, gradient=asked)
    (results,) = engine.run(engine.program(inspection.plan).result(60), [x], inspection)

    def scalar(kernel: jax.Array, x: jax.Array) -> jax.Array:
        hidden = jnp.tanh(x @ kernel + model.first.bias[None])
        return jnp.sum((hidden @ model.second.kernel[...] + model.second.bias[None])[:, 1])

    expected = jax.grad(scalar, argnums=(1, 0))(model.first.kernel[...], jnp.asarray(x))
    for (mine,), theirs in zip(results, expected, strict=True):
        close(mine, theirs)


def test_of_an_output_for_each_position(function_lab: Callable[..., Lab], batch: Callable[..., np.ndarray]) -> None:
    """An index for each place of the other axes; or for each row, whatever the place."""

    def network(_: Any, inputs: dict[str, jax.Array]) -> Any:
        x = checkpoint_name(inputs["x"], "x")
        return x[:, :, None] * jnp.arange(1.0, 4.0)[None, None]

    lab, x = function_lab(network), batch(ROWS)
    places = np.full((ROWS, 4), -1)
    places[:, 3] = [2, 1, 0]
    asked = Gradient(output="output", objective=Objective.LOGIT, indices=places)
    captured = lab.capture("x", x=x, gradient=asked)["x"]
    assert captured.tolist() == [[0, 0, 0, 3], [0, 0, 0, 2], [0, 0, 0, 1]]
    assert lab.capture("x", x=x, gradient=gradient(0, 1, 2))["x"].tolist() == [[1.0] * 4, [2.0] * 4, [3.0] * 4]


def test_what_has_no_gradient(function_lab: Callable[..., Lab], batch: Callable[..., np.ndarray]) -> None:
    def network(variables: Any, inputs: dict[str, jax.Array]) -> Any:
        before = checkpoint_name(inputs["x"] * 2.0, "before")
        count = checkpoint_name((before > 0).astype(jnp.int32), "count")
        looped = jax.lax.while_loop(lambda value: jnp.all(value < 100), lambda value: value * 2.0 + 1.0, before)
        behind = checkpoint_name(
            looped + count.astype(jnp.float32) + variables["n"].astype(jnp.float32)[None], "behind"
        )
        return behind * 1.0

    lab, x = function_lab(network, {"n": np.arange(4)}), batch(4)
    assert lab.capture("behind", x=x, gradient=gradient(3))["behind"].tolist() == [[0, 0, 0, 1]] * 4
    with pytest.raises(NotCapturableError, match="site 'count': it is int32, and gradients are of floats"):
        lab.inspect("count", gradient=gradient(0))
    with pytest.raises(NotCapturableError, match="site 'n': it is int32"):
        lab.inspect("behind", gradient=gradient(0, parameters=("n",)))
    question = lab.inspect("before", gradient=gradient(0))
    for ask in (lambda: lab.engine.cost(question), lambda: lab.program(question)):
        with pytest.raises(NotCapturableError, match="it has a while loop in it, whose steps are not known") as raised:
            ask()
        assert raised.value.reason == "NOT_DIFFERENTIABLE"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            Gradient(output="logits", objective=Objective.LOGIT, indices=np.array(0)),
            "no output 'logits'; the outputs are",
        ),
        (gradient(3), r"an index is 3; the last axis of output 'output' has 3, 0 to 2"),
        (gradient(0, 1), r"indices have shape \(2,\); expected one for all, one for each of the 3 rows"),
        (
            Gradient(output="output", objective=Objective.LOGIT, indices=np.array(0.5)),
            "indices are float64; expected int",
        ),
        (gradient(0, inputs=("image",)), "there is no input 'image'; nearest: 'x'"),
        (gradient(0, parameters=("params/tail/*",)), "matches none"),
    ],
)
def test_wrong_gradients(stack: Lab, asked: Gradient, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        stack.inspect("embed", rows=ROWS, gradient=asked)
    with pytest.raises(NotFoundError, match="no site 'params/tail'"):
        stack.inspect("embed", rows=ROWS, gradient=gradient(0, parameters=("params/tail",)))


def test_more_gradients_than_one_request_may_have(stack: Lab) -> None:
    reductions = tuple(Histogram(bins=9, low=float(low)) for low in range(MOST_RESULTS))
    with pytest.raises(LimitExceededError, match="more than 20,000 results, the most that the limit") as caught:
        stack.inspect("embed", rows=ROWS, gradient=gradient(0, parameters=("**",), reductions=reductions))
    assert (caught.value.field, caught.value.reason) == ("gradient", "TOO_MANY_RESULTS")
