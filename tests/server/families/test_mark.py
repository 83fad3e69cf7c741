"""Marks: identities that name values, and survive every transformation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

from fluoroscope_server.families.mark import mark_module_output, module_path

if TYPE_CHECKING:
    from collections.abc import Callable

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def marks(function: Callable[..., Any], *inputs: Any) -> list[str | None]:
    closed = jax.make_jaxpr(function)(*inputs)
    return [module_path(each.params["name"]) for each in closed.jaxpr.eqns if each.primitive.name == "name"]


def test_a_single_array_has_the_modules_path() -> None:
    assert marks(lambda x: mark_module_output(x, "layers/0"), X) == ["layers/0"]


def test_each_array_of_a_pytree_has_its_place() -> None:
    def apply(x: jax.Array) -> Any:
        return mark_module_output({"hidden": (x, x + 1.0), "name": "text", "none": None, "number": 3}, "cell")

    def checked(x: jax.Array) -> jax.Array:
        output = apply(x)
        assert (output["name"], output["none"], output["number"]) == ("text", None, 3)
        hidden: jax.Array = output["hidden"][1]
        return hidden

    assert marks(checked, X) == ["cell/hidden/0", "cell/hidden/1"]


def test_a_users_own_name_is_no_module() -> None:
    assert marks(lambda x: checkpoint_name(x, "layers/0"), X) == [None]


@pytest.mark.parametrize("transform", [jax.jit, jax.vmap, jax.checkpoint, lambda f: jax.grad(lambda x: f(x).sum())])
def test_changes_no_value(transform: Callable[..., Any]) -> None:
    def plain(x: jax.Array) -> jax.Array:
        return jnp.sin(x) * 2.0

    marked = transform(lambda x: mark_module_output(plain(x), "m"))(X)
    np.testing.assert_array_equal(marked, transform(plain)(X))
