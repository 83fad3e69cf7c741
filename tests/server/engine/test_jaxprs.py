"""Parts of jaxprs: what is needed, and what depends on what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from fluoroscope_server.engine import jaxprs
from fluoroscope_server.engine.flat import flatten

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fluoroscope_server.engine.jaxprs import FlatJaxpr

X = np.arange(4, dtype=np.float32)


def outputs_of(flat: FlatJaxpr, *primitives: str) -> list[Any]:
    return [variable for each in flat.equations if each.primitive.name in primitives for variable in each.outvars]


def flat_of(function: Callable[..., Any]) -> FlatJaxpr:
    return flatten(jax.make_jaxpr(function)(X)).jaxpr


def names(flat: FlatJaxpr, outputs: Sequence[Any]) -> list[str]:
    return [flat.equations[number].primitive.name for number in flat.needed(outputs)]


def test_needed_is_what_is_needed_in_order() -> None:
    table = jnp.arange(4, dtype=jnp.float32)
    other = jnp.ones(4, jnp.float32)
    flat = flat_of(lambda x: jnp.exp(jnp.cos(jnp.sin(x) + table)) * other)
    cosine = outputs_of(flat, "cos")
    assert names(flat, cosine) == ["sin", "add", "cos"]
    np.testing.assert_array_equal(flat.function(cosine)(X)[0], jnp.cos(jnp.sin(X) + table))


def test_what_is_kept_anyway_keeps_what_it_needs() -> None:
    flat = flat_of(lambda x: (jnp.cos(jnp.sin(x)), jnp.tanh(x)))
    kept = [number for number, each in enumerate(flat.equations) if each.primitive.name == "cos"]
    assert [flat.equations[number].primitive.name for number in flat.needed([], also=kept)] == ["sin", "cos"]


def test_an_input_and_a_literal_need_nothing() -> None:
    flat = flat_of(lambda x: (jnp.sin(x), 2.0))
    wanted = [flat.inputs[0], flat.outputs[1]]
    assert names(flat, wanted) == []
    np.testing.assert_array_equal(flat.function(wanted)(X)[0], X)
    assert flat.function(wanted)(X)[1] == 2.0


def test_prints_and_callbacks_are_not_needed() -> None:
    def printing(x: jax.Array) -> jax.Array:
        jax.debug.print("{}", x)
        return jnp.sin(x)

    flat = flat_of(printing)
    assert names(flat, flat.outputs) == ["sin"]


def test_writes_to_what_is_read_are_needed() -> None:
    def writing(x: jax.Array) -> Any:
        unread, read = jax.new_ref(x), jax.new_ref(x)
        unread[...] = x * 9.0
        read[...] = jnp.sin(x)
        return read[...] + 1.0

    flat = flat_of(writing)
    assert flat.has_references
    assert "mul" not in names(flat, flat.outputs)
    np.testing.assert_allclose(jax.jit(flat.function())(X)[0], np.sin(X) + 1, rtol=1e-6)


def test_shape_and_dtype() -> None:
    def kinds(x: jax.Array) -> tuple[jax.Array, ...]:
        key = jax.random.key(0)
        reference = jax.new_ref(x)
        return x.astype(jnp.bfloat16), jax.random.bits(key), reference[...]

    flat = flat_of(kinds)
    (half,) = outputs_of(flat, "convert_element_type")[:1]
    assert jaxprs.shape_and_dtype(half) == ((4,), np.dtype(jnp.bfloat16))
    for primitive in "random_seed", "random_wrap", "new_ref", "ref":
        for atom in outputs_of(flat, primitive):
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
