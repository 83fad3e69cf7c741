"""The flat form: it computes the same, and every place in it has a name that people would look for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.ad_checkpoint import checkpoint_name

from fluoroscope_server.engine import SiteKind
from fluoroscope_server.engine.flat import flatten
from fluoroscope_server.families.mark import mark_module_output

if TYPE_CHECKING:
    from collections.abc import Callable

X = np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4)

OPAQUE = {"scan", "while", "cond"}


def paths(function: Callable[..., Any], *inputs: Any, root: str = "") -> list[str]:
    return [value.path for value in flatten(jax.make_jaxpr(function)(*inputs), root=root).values]


@jax.custom_jvp
def clipped(x: jax.Array) -> jax.Array:
    return jnp.minimum(x, 1.0)


clipped.defjvps(lambda tangent, _, __: tangent)


@jax.custom_vjp
def scaled(x: jax.Array) -> jax.Array:
    return x * 2.0


scaled.defvjp(lambda x: (scaled(x), None), lambda _, gradient: (gradient,))


@jax.jit
def pair(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.sin(x), jnp.cos(x)


@jax.jit
def inner(x: jax.Array) -> jax.Array:
    return jnp.tanh(x)


@jax.jit
def outer(x: jax.Array) -> Any:
    return inner(x) + inner(x * 2.0)


def looped(x: jax.Array) -> Any:
    carried, _ = jax.lax.scan(lambda carry, _: (carry * 2.0, None), x, length=3)
    result = jax.lax.while_loop(lambda value: jnp.max(value) < 9, lambda value: value + 1.0, carried)
    return jax.lax.cond(x[0, 0] > 0, jnp.sin, jnp.cos, result)


FUNCTIONS: dict[str, Callable[[jax.Array], Any]] = {
    "relu": nn.relu,
    "leaky_relu": nn.leaky_relu,
    "gelu": nn.gelu,
    "custom_jvp": clipped,
    "custom_vjp": scaled,
    "jit": jax.jit(lambda x: x + 1.0),
    "nested jit": outer,
    "jit of pairs": pair,
    "remat": jax.checkpoint(lambda x: jnp.sin(jnp.cos(x))),
    "jit of remat of custom_jvp": jax.jit(jax.checkpoint(clipped)),
    "vmap": jax.vmap(lambda row: jnp.dot(row, row)),
    "grad": jax.grad(lambda x: jnp.sum(clipped(scaled(x)) ** 2)),
    "marks": lambda x: checkpoint_name(checkpoint_name(x, "in") * 2.0, "out"),
    "input as output": lambda x: (x, x + 1.0, x),
    "constant output": lambda x: (x, jnp.ones(3), 2.0),
    "closed-over array": lambda x: x @ jnp.asarray(X.T),
    "jit with a closed-over array": jax.jit(lambda x: x @ jnp.asarray(X.T)),
    "unused result": jax.jit(lambda x: pair(x)[0]),
    "loops": looped,
    "random": lambda x: x + jax.random.normal(jax.random.key(0), x.shape),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_computes_the_same(name: str) -> None:
    closed = jax.make_jaxpr(FUNCTIONS[name])(X)
    flat = flatten(closed).jaxpr
    assert [each.aval for each in flat.inputs] == closed.in_avals
    assert [each.aval for each in flat.outputs] == closed.out_avals
    mine, theirs = flat.function()(X), jex.jaxpr_as_fun(closed)(X)
    for got, want in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_has_no_calls(name: str) -> None:
    flat = flatten(jax.make_jaxpr(FUNCTIONS[name])(X)).jaxpr
    nested = {
        each.primitive.name for each in flat.equations if any(_holds_jaxpr(value) for value in each.params.values())
    }
    assert nested <= OPAQUE


def _holds_jaxpr(parameter: Any) -> bool:
    parts = parameter if isinstance(parameter, tuple) else (parameter,)
    return any(hasattr(part, "jaxpr") or isinstance(part, jex.Jaxpr) for part in parts)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_paths_are_unique_and_stable(name: str) -> None:
    first, second = paths(FUNCTIONS[name], X), paths(FUNCTIONS[name], X)
    assert first == second
    assert len(set(first)) == len(first)
    assert all(first)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_value_can_be_an_output(name: str) -> None:
    """Even those inside what was nested, and those that nobody uses; what is inside a loop is for another test."""
    flat = flatten(jax.make_jaxpr(FUNCTIONS[name])(X))
    outside = [each.atom for each in flat.values if not each.loops and not each.reason]
    atoms = [atom for atom in outside if not jnp.issubdtype(atom.aval.dtype, jax.dtypes.prng_key)]
    results = jax.jit(flat.jaxpr.function(atoms))(X)
    assert [each.shape for each in results] == [each.aval.shape for each in atoms]


def test_order_is_that_of_execution() -> None:
    flat = flatten(jax.make_jaxpr(lambda x: outer(nn.relu(x)))(X))
    place = {variable: index for index, each in enumerate(flat.jaxpr.equations) for variable in each.outvars}
    places = [place[value.atom] for value in flat.values]
    assert places == sorted(places)


def test_a_function_with_a_derivative_of_its_own_has_its_name() -> None:
    assert paths(lambda x: nn.relu(nn.relu(x) + 1.0), X) == [
        "relu:0/max:0",
        "relu:0",
        "add:0",
        "relu:1/max:0",
        "relu:1",
    ]
    assert paths(clipped, X) == ["clipped:0/min:0", "clipped:0"]
    assert paths(scaled, X) == ["scaled:0/mul:0", "scaled:0"]
    assert paths(nn.leaky_relu, X)[-1] == "leaky_relu:0"


def test_nested_calls() -> None:
    assert paths(outer, X) == [
        "outer:0/inner:0/tanh:0",
        "outer:0/inner:0",
        "outer:0/mul:0",
        "outer:0/inner:1/tanh:0",
        "outer:0/inner:1",
        "outer:0/add:0",
        "outer:0",
    ]


def test_several_results_are_numbered() -> None:
    assert paths(pair, X) == ["pair:0/sin:0", "pair:0/cos:0", "pair:0/0", "pair:0/1"]


def test_remat_is_no_place() -> None:
    assert paths(jax.checkpoint(lambda x: jnp.sin(jnp.cos(x))), X) == ["cos:0", "sin:0"]


def test_scopes_are_part_of_names() -> None:
    def scoped(x: jax.Array) -> Any:
        with jax.named_scope("block"):
            y = inner(x * 2.0)
            with jax.named_scope("deep"):
                return y * 3.0

    assert paths(scoped, X) == ["block/mul:0", "block/inner:0/tanh:0", "block/inner:0", "block/deep/mul:0"]


def test_the_root_is_left_out() -> None:
    def rooted(x: jax.Array) -> jax.Array:
        with jax.named_scope("Net"):
            with jax.named_scope("Net"):
                x = x * 2.0
            x = x + 1.0
        with jax.named_scope("Net.encode"):
            return x - 1.0

    assert paths(rooted, X, root="Net") == ["Net/mul:0", "add:0", "sub:0"]
    assert paths(rooted, X) == ["Net/Net/mul:0", "Net/add:0", "Net.encode/sub:0"]


def test_what_depends_on_the_data_is_named_with_the_reason() -> None:
    values = {each.path: each for each in flatten(jax.make_jaxpr(looped)(X)).values}
    assert not any(values[path].reason for path in ("scan:0", "while:0", "cond:0"))
    assert "how often that runs depends on the data" in values["while:0/body/add:0"].reason
    for path in ("cond:0/branch_0/cos:0", "cond:0/branch_1/sin:0"):
        assert "in a branch of a condition" in values[path].reason


def test_what_runs_on_parts_is_named_with_the_reason_and_what_that_returns_can_be_had() -> None:
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("rows",))
    rows = jax.sharding.PartitionSpec("rows")
    shard_map: Any = jax.shard_map  # JAX gives it no types
    parted = shard_map(lambda x: checkpoint_name(jnp.sin(x), "part") * 2.0, mesh=mesh, in_specs=rows, out_specs=rows)
    values = {each.path: each for each in flatten(jax.make_jaxpr(lambda x: parted(x) + 1.0)(X)).values}
    for path in ("sin:0", "part", "mul:0"):
        assert "inside a shard_map, where each device has a part" in values[f"shard_map:0/shard/{path}"].reason
    assert [path for path, each in values.items() if not each.reason] == ["shard_map:0", "add:0"]


def kinds(function: Callable[..., Any], *inputs: Any) -> dict[str, SiteKind]:
    return {value.path: value.kind for value in flatten(jax.make_jaxpr(function)(*inputs)).values}


def test_names_that_a_user_gave() -> None:
    def named(x: jax.Array) -> Any:
        with jax.named_scope("block"):
            x = checkpoint_name(x * 2.0, "hidden")
            x = checkpoint_name(x * 2.0, "hidden")
        x = jax.checkpoint(lambda y: checkpoint_name(jnp.sin(y), "in/remat"))(x)
        return checkpoint_name(x, "")

    assert kinds(named, X) == {
        "block/mul:0": SiteKind.EQUATION,
        "block/hidden": SiteKind.NAMED,
        "block/mul:1": SiteKind.EQUATION,
        "block/hidden:1": SiteKind.NAMED,
        "sin:0": SiteKind.EQUATION,
        "in/remat": SiteKind.NAMED,
        "unnamed": SiteKind.NAMED,
    }


def test_marks_of_modules_ignore_scopes() -> None:
    def marked(x: jax.Array) -> dict[str, jax.Array]:
        with jax.named_scope("somewhere"):
            x = jax.jit(lambda y: mark_module_output(y, "layers/0"))(x)
        return mark_module_output({"b": x, "a": (x, 1.0)}, "head")  # type: ignore[no-any-return]  # a pytree comes back as it went in

    found = [path for path, kind in kinds(marked, X).items() if kind is SiteKind.MODULE]
    assert found == ["layers/0", "head/a/0", "head/b"]


def test_a_name_that_is_taken_is_changed() -> None:
    def taken(x: jax.Array) -> Any:
        return checkpoint_name(x * 2.0, "mul:0") + checkpoint_name(x, "mul:0")

    assert paths(taken, X) == ["mul:0", "mul:0'", "mul:0:1", "add:0"]


def test_a_mark_on_a_constant() -> None:
    flat = flatten(jax.make_jaxpr(lambda x: x * checkpoint_name(jnp.float32(2), "two"))(X))
    assert "two" in [value.path for value in flat.values]


OPERATIONS: tuple[Callable[[jax.Array], jax.Array], ...] = (
    nn.relu,
    inner,
    outer,
    jnp.sin,
    clipped,
    scaled,
    jax.checkpoint(outer),
    lambda x: checkpoint_name(x, "named"),
    lambda x: pair(x)[1],
)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from(range(len(OPERATIONS))), min_size=1, max_size=8), st.integers(0, 2))
def test_any_composition(chosen: list[int], nesting: int) -> None:
    def composed(x: jax.Array) -> jax.Array:
        for index in chosen:
            x = OPERATIONS[index](x)
        return x

    for _ in range(nesting):
        composed = jax.jit(composed)
    closed = jax.make_jaxpr(composed)(X)
    flat = flatten(closed)
    names = [value.path for value in flat.values]
    assert len(set(names)) == len(names)
    np.testing.assert_array_equal(flat.jaxpr.function()(X)[0], jex.jaxpr_as_fun(closed)(X)[0])
