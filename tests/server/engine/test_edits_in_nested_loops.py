"""Edits and gradients in loops within loops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

from fluoroscope_server.engine import Add, Edit, Execution, Gradient, Objective, PatchFromInputs, Scale, Slice, Zero
from fluoroscope_server.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.server.engine.conftest import Lab

OUTER, INNER = 3, 2
W = np.random.default_rng(0).normal(size=(OUTER, INNER, 4)).astype(np.float32)


def network(variables: Any, inputs: dict[str, jax.Array]) -> Any:
    def inner(x: jax.Array, w: jax.Array) -> Any:
        return checkpoint_name(jnp.sin(x * w[None]), "deep"), None

    def outer(x: jax.Array, w: jax.Array) -> Any:
        y, _ = jax.lax.scan(inner, x, w)
        return checkpoint_name(x + y, "wide"), None

    return jax.lax.scan(outer, inputs["x"], variables["w"])[0] * 2.0


def by_hand(x: Any, edit: Callable[[str, tuple[int, ...], Any], Any], xp: Any = np) -> Any:
    for o in range(OUTER):
        y = x
        for i in range(INNER):
            y = edit("deep", (o, i), xp.sin(y * W[o, i][None]))
        x = edit("wide", (o,), x + y)
    return x * 2.0


@pytest.fixture(scope="module")
def lab(function_lab: Callable[..., Lab]) -> Lab:
    return function_lab(network, {"w": W})


@pytest.fixture(scope="module")
def path(lab: Lab) -> Callable[..., str]:
    """Returns the path of a site of some iterations."""
    templates = {
        name: next(
            site.path for site in lab.engine.sites if site.path.endswith(name) and site.path.count("[*]") == count
        )
        for name, count in (("deep", 2), ("wide", 1))
    }

    def of(name: str, *iterations: int | str) -> str:
        found = templates[name]
        for each in iterations:
            found = found.replace("[*]", f"[{each}]", 1) if each != "*" else found.replace("[*]", "[\0]", 1)
        return found.replace("\0", "*")

    return of


@pytest.mark.parametrize("execution", [Execution.FUSED, Execution.STAGED])
def test_edits_at_any_depth(
    lab: Lab, path: Callable[..., str], batch: Callable[..., np.ndarray], execution: Execution
) -> None:
    x = batch(3)
    steering = np.random.default_rng(1).normal(size=(2, INNER, 1, 4)).astype(np.float32)
    edits = [
        Edit(sites=(path("deep", 1, 0),), change=Scale(factor=np.array(-2.0)), rows=(1,)),
        Edit(sites=(path("deep", "*", "*"),), change=Add(value=steering), slices=(Slice(axis=0, start=1),)),
        Edit(sites=(path("deep", 0, 1), path("deep", 2, 0)), change=Zero(), units=(3,)),
        Edit(sites=(path("wide", 1),), change=Scale(factor=np.array(0.5))),
    ]

    def edit(name: str, at: tuple[int, ...], value: Any) -> Any:
        value = value.copy()
        if (name, at) == ("deep", (1, 0)):
            value[1] *= -2
        if name == "deep" and at[0] >= 1:
            value += steering[at[0] - 1, at[1]]
        if (name, at) in {("deep", (0, 1)), ("deep", (2, 0))}:
            value[:, 3] = 0
        return value * 0.5 if (name, at) == ("wide", (1,)) else value

    seen: dict[str, Any] = {}

    def watched(name: str, at: tuple[int, ...], value: Any) -> Any:
        seen[path(name, *at)] = edit(name, at, value)
        return seen[path(name, *at)]

    expected = by_hand(x.astype(np.float64), watched)
    found = lab.capture(*seen, x=x, padding=5.0, edits=edits, outputs=["output"], execution=execution)
    np.testing.assert_allclose(found.pop("output"), expected, rtol=1e-4, atol=1e-5)
    assert set(found) == set(seen)
    for name, value in found.items():
        np.testing.assert_allclose(value, seen[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_gradients_at_any_depth(lab: Lab, path: Callable[..., str], batch: Callable[..., np.ndarray]) -> None:
    x = batch(3)
    asked = Gradient(output="output", objective=Objective.LOGIT, indices=np.array(2))

    def scalar(zeros: dict[str, Any]) -> Any:
        return jnp.sum(by_hand(jnp.asarray(x), lambda name, at, value: value + zeros[path(name, *at)], jnp)[:, 2])

    zeros = {path("deep", o, i): jnp.zeros((3, 4)) for o in range(OUTER) for i in range(INNER)}
    zeros |= {path("wide", o): jnp.zeros((3, 4)) for o in range(OUTER)}
    expected = jax.jit(jax.grad(scalar))(zeros)
    found = lab.capture(*zeros, path("deep", "*", "*"), x=x, padding=5.0, gradient=asked)
    whole = found.pop(path("deep", "*", "*"))
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-5, err_msg=name)
    np.testing.assert_array_equal(whole[1, 0], found[path("deep", 1, 0)])


def test_nothing_is_patched_there_from_other_inputs(
    lab: Lab, path: Callable[..., str], batch: Callable[..., np.ndarray]
) -> None:
    change = PatchFromInputs(inputs={"x": batch(3)})
    with pytest.raises(InvalidRequestError, match="in a loop within a loop, where nothing can be patched"):
        lab.inspect(path("wide", 1), rows=3, edits=[Edit(sites=(path("deep", 1, 0),), change=change)])
