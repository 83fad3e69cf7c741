"""The Vision Transformer: the order of its patches, its attention, its two ways to pool, and its refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluoroscope_server.engine import SiteKind
from fluoroscope_server.errors import ConfigError
from fluoroscope_server.families import build_network
from fluoroscope_server.families.activation import ACTIVATIONS
from fluoroscope_server.families.vit import build

from ...builtin_families import EXAMPLES
from ...drawn import doubles, numbers

if TYPE_CHECKING:
    from collections.abc import Callable

    from fluoroscope_server.model_config import ModelConfig

    from .conftest import Served

EXAMPLE = EXAMPLES["vit"]
ROWS, TOKENS, WIDTH, HEADS = 4, 1 + 2 * 3, 8, 2


@pytest.fixture
def served(serve: Callable[..., Served]) -> Served:
    return serve(EXAMPLE)


def test_defaults() -> None:
    network = build({})
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.ones((1, 32, 32, 3)))
    assert shapes["params"]["embed"]["positions"].shape == (1, 1 + 64, 256)
    assert {name for name in shapes["params"] if name.startswith("layers_")} == {f"layers_{i}" for i in range(6)}
    assert jax.eval_shape(network.apply, shapes, jnp.ones((5, 32, 32, 3))).shape == (5, 10)


def test_patches_are_cut_along_the_rows_of_the_image(served: Served) -> None:
    """Against a plain reshape, in float64."""
    x = EXAMPLE.inputs(ROWS)
    height, width, channels = EXAMPLE.shape
    cut = x.reshape(ROWS, height // 4, 4, width // 4, 4, channels).swapaxes(2, 3).reshape(ROWS, TOKENS - 1, -1)
    embed = doubles(served.variables["params"]["embed"])
    tokens = cut @ embed["patches"]["kernel"].reshape(-1, WIDTH) + embed["patches"]["bias"]
    first = np.broadcast_to(embed["class_token"], (ROWS, 1, WIDTH))
    want = np.concatenate([first, tokens], axis=1) + embed["positions"]
    found = served.capture(x, "embed")["embed"]
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5)


def test_attention_is_seen(served: Served) -> None:
    """The softmax is one site, and its parts are sites: nothing of it has to be named by the network."""
    found = served.capture(EXAMPLE.inputs(ROWS), "layers_*/attn/softmax:0", kinds=(SiteKind.EQUATION,))
    assert list(found) == ["layers_0/attn/softmax:0", "layers_1/attn/softmax:0"]
    for weights in found.values():
        assert weights.shape == (ROWS, HEADS, TOKENS, TOKENS)
        np.testing.assert_allclose(weights.sum(axis=-1), np.ones((ROWS, HEADS, TOKENS)), rtol=1e-5)
    paths = {site.path for site in served.servable.engine.sites}
    assert {"layers_0/attn/dot_general:0", "layers_0/attn/softmax:0/exp:0"} < paths


def test_the_inside_of_an_mlp_is_seen(served: Served) -> None:
    found = served.capture(EXAMPLE.inputs(ROWS), "layers_1/mlp/up", "layers_1/mlp/hidden")
    want = ACTIVATIONS["gelu"](found["layers_1/mlp/up"])
    np.testing.assert_allclose(found["layers_1/mlp/hidden"], want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pool", ["class_token", "mean"])
def test_the_head_reads_the_class_token_or_the_mean(pool: str, intermediates: Callable[..., dict[str, Any]]) -> None:
    network = build({**EXAMPLE.config, "pool": pool})
    x = EXAMPLE.inputs(ROWS)
    variables = numbers(jax.eval_shape(network.init, jax.random.key(0), x))
    found = intermediates(network, variables, x)
    has_token = pool == "class_token"
    assert ("class_token" in variables["params"]["embed"]) == has_token
    assert found["embed"].shape == (ROWS, TOKENS if has_token else TOKENS - 1, WIDTH)
    read = found["norm"][:, 0] if has_token else found["norm"].mean(axis=1, dtype=np.float64)
    head = doubles(variables["params"]["head"])
    want = read @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(found["__call__"], want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"patch_size": 0}, "vit's patch_size must be a positive number, not 0"),
        ({"width": "wide"}, "vit's width must be a positive number, not 'wide'"),
        ({"depth": 0}, "vit's depth must be a positive number, not 0"),
        ({"heads": None}, "vit's heads must be a positive number, not None"),
        ({"mlp_ratio": 2.5}, "vit's mlp_ratio must be a positive whole number, not 2.5"),
        ({"num_classes": -1}, "vit's num_classes must be a positive number, not -1"),
        ({"width": 10, "heads": 4}, "vit's width must be a multiple of its heads, and 10 is no multiple of 4"),
        ({"pool": "max"}, "vit has no pool 'max'; nearest: .*; known: class_token, mean"),
        ({"act_fn": "gelu_"}, "vit has no act_fn 'gelu_'; nearest: 'gelu'"),
    ],
)
def test_refusals(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(given)


@pytest.mark.parametrize("shape", [[8], [8, 8], [10, 8, 1], [8, 10, 1], [2, 2, 1]])
def test_an_input_that_cannot_be_cut(shape: list[int], config: Callable[..., ModelConfig]) -> None:
    message = rf"\[height, width, channels\], .* multiples of patch_size, 4; not \[{', '.join(map(str, shape))}\]"
    with pytest.raises(ConfigError, match=message):
        build_network(config(family="vit", inputs={"image": {"shape": shape}}), {})
