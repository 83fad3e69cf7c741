"""Values in which rows are mixed: nobody is joined with others where one could tell of another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import pytest
from jax.ad_checkpoint import checkpoint_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .conftest import Lab


def off_the_path(_: Any, inputs: Mapping[str, jax.Array]) -> jax.Array:
    """Mixes rows where no output needs it: in the open, and in a loop."""
    x: jax.Array = checkpoint_name(inputs["x"] * 2.0, "plain")
    centred = checkpoint_name(x - x.mean(axis=0, keepdims=True), "centred")
    checkpoint_name(jnp.sin(centred), "later")

    def body(carried: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        carried = checkpoint_name(jnp.cos(carried), "apart")
        share: jax.Array = checkpoint_name(carried / carried.sum(axis=0, keepdims=True), "share")
        return carried, share

    jax.lax.scan(body, x, length=3)
    return x


@pytest.mark.parametrize("buckets", [(2, 4), (1, 4)])
def test_where_rows_are_mixed(buckets: tuple[int, ...], function_lab: Callable[..., Lab]) -> None:
    lab = function_lab(off_the_path, buckets=buckets)
    found: dict[str, set[bool]] = {}
    for site in lab.engine.sites:
        if not site.reason:
            kept = lab.engine.keeps_rows_apart(lab.inspect(site.path))
            found.setdefault(site.path.split("/")[-1], set()).add(kept)
    wanted = {"plain": {True}, "apart": {True}, "centred": {False}, "later": {False}, "share": {False}}
    assert {name: found[name] for name in wanted} == wanted
    assert lab.engine.joined_rows == 4, "no output is mixed"


def _sorted_and_back(_: Any, inputs: Mapping[str, jax.Array]) -> jax.Array:
    """Brings the rows in an order of their own, as a router of experts does, and back."""
    x = inputs["x"]
    order = jnp.argsort(x[:, 0])
    moved: jax.Array = checkpoint_name(jnp.take(x, order, axis=0), "moved")
    checkpoint_name(jnp.cumsum(x, axis=0), "summed")
    checkpoint_name(jnp.sort(x, axis=1), "each")
    return jnp.zeros_like(x).at[order].set(moved)


def test_values_that_mix_rows_and_keep_the_axis_of_the_batch(function_lab: Callable[..., Lab]) -> None:
    """The outputs mix none, so predictions are joined; but whoever looks inside would see where the others are."""
    lab = function_lab(_sorted_and_back, buckets=(4, 6))
    lab.engine.probe_rows()
    assert lab.engine.joined_rows == 6
    kept = {name: lab.engine.keeps_rows_apart(lab.inspect(name)) for name in ("moved", "summed", "each")}
    assert kept == {"moved": False, "summed": False, "each": True}


def _a_token_for_each_row(variables: Mapping[str, jax.Array], inputs: Mapping[str, jax.Array]) -> jax.Array:
    x = inputs["x"]
    tokens = jnp.concatenate([variables["token"]] * x.shape[0], axis=0)
    checkpoint_name(jnp.concatenate([x[-1:]] * x.shape[0], axis=0), "last")
    total: jax.Array = checkpoint_name(x + tokens, "sum")
    return total


def test_an_equation_with_an_operand_for_each_row(function_lab: Callable[..., Lab]) -> None:
    """Of weights that is nothing to wonder at; of a row it is."""
    lab = function_lab(_a_token_for_each_row, {"token": jnp.ones((1, 4))}, buckets=(1, 4, 6))
    lab.engine.probe_rows()
    assert lab.engine.joined_rows == 6
    assert {name: lab.engine.keeps_rows_apart(lab.inspect(name)) for name in ("last", "sum")} == {
        "last": False,
        "sum": True,
    }


def test_equations_of_another_kind_for_each_batch(function_lab: Callable[..., Lab]) -> None:
    """As many values are made for each, so only the equations tell."""

    def apply(_: Any, inputs: Mapping[str, jax.Array]) -> jax.Array:
        x = inputs["x"]
        checkpoint_name(jnp.cumsum(x, axis=0) if x.shape[0] > 4 else jnp.sin(x), "other")
        return x * 2.0

    lab = function_lab(apply, buckets=(4, 6))
    lab.engine.probe_rows()
    assert not lab.engine.keeps_rows_apart(lab.inspect("other"))


def test_a_network_that_mixes_rows_keeps_none_apart(function_lab: Callable[..., Lab]) -> None:
    lab = function_lab(lambda _, inputs: inputs["x"] - inputs["x"].mean(axis=0, keepdims=True), buckets=(2, 4))
    assert not any(lab.engine.keeps_rows_apart(lab.inspect(site.path)) for site in lab.engine.sites if not site.reason)
