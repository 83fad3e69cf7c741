"""What modules are called with: a site where no module returned it, and only for who asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flax.linen as nn
import numpy as np
import pytest

from fluoroscope_server.engine import SiteKind
from fluoroscope_server.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Callable

    import jax
    from tests.server.engine.conftest import Lab


class Scale(nn.Module):
    """Takes two arrays and a list to fill."""

    @nn.compact
    def __call__(self, x: jax.Array, by: jax.Array, seen: list[Any]) -> jax.Array:
        seen.append(x)
        return x * by


class Network(nn.Module):
    """A layer behind an activation function, one right behind another layer, and a module of two arrays."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(nn.Dense(4)(x))
        x = nn.Dense(4)(x)
        seen: list[Any] = []
        x = Scale()(nn.LayerNorm()(x), x * 2.0, seen)
        assert len(seen) == 1, "a list that a module fills is its caller's"
        return x


@pytest.fixture(scope="module")
def lab(linen_lab: Callable[..., Lab]) -> Lab:
    return linen_lab(Network())


def test_what_no_module_returned(lab: Lab) -> None:
    table = lab.engine.sites
    inputs = [site.path for site in table.matching([], [SiteKind.INPUT])]
    assert inputs == ["__call__/input", "Dense_0/input", "Dense_1/input", "Scale_0/input/1"]
    assert not [site for site in table if site.kind is SiteKind.INPUT]
    assert not [site for site in table.matching(["**"], []) if site.kind is SiteKind.INPUT]
    assert [site.path for site in table.matching(["*/input"], [])] == inputs[:3]


def test_they_are_what_went_in(lab: Lab, batch: Callable[..., np.ndarray]) -> None:
    x = batch(3)
    captured = lab.capture("*/input", "Scale_0/input/1", "relu:0", "Dense_1", x=x)
    np.testing.assert_array_equal(captured["Dense_0/input"], x)
    np.testing.assert_array_equal(captured["Dense_1/input"], captured["relu:0"])
    np.testing.assert_allclose(captured["Scale_0/input/1"], np.asarray(captured["Dense_1"]) * 2, rtol=1e-6)
    assert not [path for path in lab.capture("**", x=x) if "input" in path]
    assert list(lab.capture("**", x=x, kinds=[SiteKind.INPUT]))[:2] == ["__call__/input", "Dense_0/input"]


def test_what_another_module_returned_has_no_second_name(lab: Lab) -> None:
    with pytest.raises(InvalidRequestError, match="matches none"):
        lab.inspect("LayerNorm_0/input*")
    with pytest.raises(InvalidRequestError, match="matches none"):
        lab.inspect("Scale_0/input/0*")


def test_in_every_iteration_of_a_loop(linen_lab: Callable[..., Lab], batch: Callable[..., np.ndarray]) -> None:
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array, _: Any) -> Any:
            return nn.Dense(4, name="out")(nn.tanh(x)), None

    class Stack(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            scanned = nn.scan(Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=2)
            result: jax.Array = scanned(name="layers")(x, None)[0]
            return result

    lab, x = linen_lab(Stack()), batch(4)
    captured = lab.capture("layers[*]/out/input", "layers[0]", "layers[1]/out/input", x=x)
    np.testing.assert_allclose(captured["layers[1]/out/input"], np.tanh(np.asarray(captured["layers[0]"])), rtol=1e-5)
    np.testing.assert_allclose(np.asarray(captured["layers[*]/out/input"])[0], np.tanh(x), rtol=1e-5)
