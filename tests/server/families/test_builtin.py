"""What all builtin families have in common: their configs, and a checkpoint that is served and looked into."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluoroscope_server.engine import Full, Gradient, Objective, SiteKind
from fluoroscope_server.errors import ConfigError
from fluoroscope_server.families.catalogue import BUILTIN, build_network
from fluoroscope_server.model_config import ModelConfig

from ...builtin_families import EXAMPLES, STEP

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Served

ROWS = 4


def test_every_family_has_an_example() -> None:
    assert list(EXAMPLES) == list(BUILTIN)


@pytest.fixture(params=BUILTIN)
def served(request: pytest.FixtureRequest, serve: Callable[..., Served]) -> Served:
    return serve(EXAMPLES[request.param])


@pytest.mark.parametrize("family", BUILTIN)
def test_an_unknown_key_is_refused_with_the_nearest(family: str) -> None:
    config = EXAMPLES[family].config
    key = next(iter(config))
    with pytest.raises(ConfigError, match=rf"{family} has no '{key}s'; nearest: '{key}'.*; known: .*{key}"):
        BUILTIN[family]({**config, f"{key}s": 1})


def test_predicts_what_the_network_computes(served: Served) -> None:
    assert (served.servable.family, served.servable.version) == (served.example.family, STEP)
    x = served.example.inputs(ROWS)
    want = served.example.apply(served.variables, x)
    assert np.ptp(want, axis=0).min() > 0.01, "a network that answers alike whatever it is asked would hide a mistake"
    np.testing.assert_array_equal(served.predict(x), want, strict=True)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_examples_do_not_mix(served: Served, rows: int) -> None:
    """So they may be padded, and joined with those of others."""
    x = served.example.inputs(ROWS)
    want = served.example.apply(served.variables, x)[:rows]
    np.testing.assert_allclose(served.predict(x[:rows]), want, rtol=1e-4, atol=1e-5)
    assert served.servable.engine.joined_rows == ROWS


def test_every_site_can_be_captured(served: Served) -> None:
    assert [(site.path, site.reason) for site in served.servable.engine.sites if site.reason] == []


@pytest.mark.parametrize("served", ["base_network", "cnn", "vit"], indirect=True)
def test_module_sites_are_what_flax_captures(served: Served, intermediates: Callable[..., dict[str, Any]]) -> None:
    """Of what Flax can capture: NNX, and layers under scan, have tests in files of their own."""
    x = served.example.inputs(ROWS)
    want = intermediates(served.example.module(), served.variables, x)
    found = served.capture(x, "**", kinds=(SiteKind.MODULE,))
    assert found.keys() == want.keys()
    for site, value in found.items():
        np.testing.assert_allclose(value, want[site], rtol=1e-4, atol=1e-5, err_msg=site, strict=True)


def test_gradients_are_those_of_jax(served: Served) -> None:
    """Of a loss, with respect to all parameters: whatever the network is made of, JAX differentiates the same."""
    x = served.example.inputs(ROWS)
    network = build_network(ModelConfig.parse(served.example.model_config()), {})
    variables = jax.tree.unflatten(jax.tree.structure(network.variables), jax.tree.leaves(served.variables))
    labels = np.random.default_rng(1).integers(3, size=served.predict(x).shape[:-1])

    def loss(variables: Any) -> jax.Array:
        (logits,) = network.function(variables, (jnp.asarray(x),))
        return -jnp.sum(jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.asarray(labels)[..., None], axis=-1))

    asked = Gradient(
        output="logits", objective=Objective.CROSS_ENTROPY, indices=labels, parameters=("**",), reductions=(Full(),)
    )
    found = served.capture(x, "**", kinds=(SiteKind.MODULE,), gradient=asked)
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        want = jax.tree.leaves(jax.jit(jax.grad(loss))(variables))  # one program: quicker than one for each step
    assert len(found) > len(want)
    for (path, value), expected in zip(found.items(), want, strict=False):
        np.testing.assert_allclose(value, expected, rtol=1e-3, atol=1e-4, err_msg=path)
