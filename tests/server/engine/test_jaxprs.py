"""Parts of jaxprs: what is needed, and what depends on what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from fluoroscope_server.engine import jaxprs

if TYPE_CHECKING:
    from collections.abc import Callable

X = np.arange(4, dtype=np.float32)


def outputs_of(closed: jex.ClosedJaxpr, *primitives: str) -> list[Any]:
    return [variable for each in closed.jaxpr.eqns if each.primitive.name in primitives for variable in each.outvars]


def names(closed: jex.ClosedJaxpr) -> list[str]:
    return [each.primitive.name for each in closed.jaxpr.eqns]


def test_pruned_keeps_what_is_needed_in_order() -> None:
    table = jnp.arange(4, dtype=jnp.float32)
    other = jnp.ones(4, jnp.float32)
    closed = jax.make_jaxpr(lambda x: jnp.exp(jnp.cos(jnp.sin(x) + table)) * other)(X)
    pruned = jaxprs.pruned(closed, outputs_of(closed, "cos"))
    assert names(pruned) == ["sin", "add", "cos"]
    assert len(pruned.consts) == 1
    np.testing.assert_array_equal(jex.jaxpr_as_fun(pruned)(X)[0], jnp.cos(jnp.sin(X) + table))


def test_pruned_to_an_input_and_to_a_literal_needs_nothing() -> None:
    closed = jax.make_jaxpr(lambda x: (jnp.sin(x), 2.0))(X)
    pruned = jaxprs.pruned(closed, [closed.jaxpr.invars[0], closed.jaxpr.outvars[1]])
    assert names(pruned) == []
    np.testing.assert_array_equal(jex.jaxpr_as_fun(pruned)(X)[0], X)
    assert jex.jaxpr_as_fun(pruned)(X)[1] == 2.0


def test_pruned_drops_prints_and_callbacks() -> None:
    def printing(x: jax.Array) -> jax.Array:
        jax.debug.print("{}", x)
        return jnp.sin(x)

    closed = jax.make_jaxpr(printing)(X)
    assert names(jaxprs.pruned(closed, closed.jaxpr.outvars)) == ["sin"]


def test_pruned_keeps_writes_to_what_is_read() -> None:
    def writing(x: jax.Array) -> Any:
        unread, read = jax.new_ref(x), jax.new_ref(x)
        unread[...] = x * 9.0
        read[...] = jnp.sin(x)
        return read[...] + 1.0

    closed = jax.make_jaxpr(writing)(X)
    pruned = jaxprs.pruned(closed, closed.jaxpr.outvars)
    assert "mul" not in names(pruned)
    np.testing.assert_allclose(jax.jit(jex.jaxpr_as_fun(pruned))(X)[0], np.sin(X) + 1, rtol=1e-6)


def test_dependents() -> None:
    closed = jax.make_jaxpr(lambda w, x: (jnp.sin(w), jnp.cos(x), jnp.tanh(w + jnp.exp(x)), jnp.arange(3)))(X, X)
    found = jaxprs.dependents(closed, closed.jaxpr.invars[1:])
    assert found == {closed.jaxpr.invars[1], *outputs_of(closed, "cos", "exp", "add", "tanh")}


def test_shape_and_dtype() -> None:
    def kinds(x: jax.Array) -> tuple[jax.Array, ...]:
        key = jax.random.key(0)
        reference = jax.new_ref(x)
        return x.astype(jnp.bfloat16), jax.random.bits(key), reference[...]

    closed = jax.make_jaxpr(kinds)(X)
    (half,) = outputs_of(closed, "convert_element_type")[:1]
    assert jaxprs.shape_and_dtype(half) == ((4,), np.dtype(jnp.bfloat16))
    for primitive in "random_seed", "random_wrap", "new_ref", "ref":
        for atom in outputs_of(closed, primitive):
            assert jaxprs.shape_and_dtype(atom) is None
    assert jaxprs.shape_and_dtype(jax.make_jaxpr(lambda: 2.0)().jaxpr.outvars[0]) == ((), np.dtype(np.float32))


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (jax.jit(jnp.sin), "sin"),
        (jax.jit(lambda x: x * 2.0), "<lambda>"),
        (jax.checkpoint(jnp.sin), None),
        (jnp.tanh, None),
    ],
)
def test_called_name(function: Callable[..., Any], name: str | None) -> None:
    equation = jax.make_jaxpr(function)(X).jaxpr.eqns[0]
    assert jaxprs.called_name(equation) == name


def test_names_with_slashes_do_not_make_segments() -> None:
    def slashed(x: jax.Array) -> jax.Array:
        return x * 2.0

    slashed.__name__ = slashed.__qualname__ = "a/b"
    equation = jax.make_jaxpr(jax.jit(slashed))(X).jaxpr.eqns[0]
    assert jaxprs.called_name(equation) == "a_b"


def test_a_jit_with_shardings_stays_whole() -> None:
    mesh = jax.make_mesh((1,), ("data",))
    sharded = jax.jit(jnp.sin, out_shardings=NamedSharding(mesh, PartitionSpec()))
    (equation,) = jax.make_jaxpr(sharded)(X).jaxpr.eqns
    assert jaxprs.called_jaxpr(equation) is None
