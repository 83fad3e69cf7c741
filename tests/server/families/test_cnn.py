"""The convolutional network: its stages, its batch norm, and what its config may not say."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluoroscope_server.engine import SiteKind
from fluoroscope_server.errors import ConfigError
from fluoroscope_server.families import build_network
from fluoroscope_server.families.cnn import build

from ...builtin_families import EXAMPLES

if TYPE_CHECKING:
    from collections.abc import Callable

    from fluoroscope_server.model_config import ModelConfig

    from .conftest import Served

EXAMPLE = EXAMPLES["cnn"]
ROWS = 4


@pytest.fixture
def served(serve: Callable[..., Served]) -> Served:
    return serve(EXAMPLE)


def test_defaults() -> None:
    network = build({})
    assert (network.widths, network.blocks, network.num_classes) == ((16, 32, 64), (3, 3, 3), 10)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.ones((1, 28, 28, 1)))
    assert shapes["params"]["stages_2"]["blocks_0"]["conv_0"]["kernel"].shape == (3, 3, 32, 64)
    assert jax.eval_shape(network.apply, shapes, jnp.ones((5, 28, 28, 1))).shape == (5, 10)


@pytest.mark.parametrize(("side", "halves"), [(8, [8, 4, 2]), (7, [7, 4, 2]), (1, [1, 1, 1])])
def test_each_stage_but_the_first_halves_the_image(
    side: int, halves: list[int], intermediates: Callable[..., dict[str, Any]]
) -> None:
    network = build({"widths": [2, 3, 4], "blocks": [1, 1, 2]})
    image = np.ones((2, side, side, 1), np.float32)
    variables = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), jax.eval_shape(network.init, jax.random.key(0), image))
    found = intermediates(network, variables, image)
    assert [found[f"stages_{index}"].shape for index in range(3)] == [
        (2, half, half, width) for half, width in zip(halves, (2, 3, 4), strict=True)
    ]
    assert [path for path in found if path.endswith("shortcut")] == [
        "stages_1/blocks_0/shortcut",
        "stages_2/blocks_0/shortcut",
    ]


def test_batch_norm_uses_the_stored_statistics(served: Served) -> None:
    x = EXAMPLE.inputs(ROWS)
    found = served.capture(x, "stem", "stem_norm", kinds=(SiteKind.MODULE,))
    stored = served.variables["batch_stats"]["stem_norm"]
    learned = served.variables["params"]["stem_norm"]
    mean, var, scale, bias = (
        np.asarray(each, np.float64) for each in (stored["mean"], stored["var"], learned["scale"], learned["bias"])
    )
    want = (found["stem"] - mean) / np.sqrt(var + 1e-5) * scale + bias
    np.testing.assert_allclose(found["stem_norm"], want, rtol=1e-5, atol=1e-5)


def test_a_block_adds_what_it_finds_to_what_came_in(served: Served) -> None:
    x = EXAMPLE.inputs(ROWS)
    first = served.capture(x, "relu:0", "stages_0/blocks_0/norm_1", "stages_0")
    want = np.maximum(first["relu:0"] + first["stages_0/blocks_0/norm_1"], 0)
    np.testing.assert_allclose(first["stages_0"], want, rtol=1e-6, atol=1e-6)
    second = served.capture(x, "stages_1/blocks_0", "stages_1/blocks_0/norm_1", "stages_1/blocks_0/shortcut_norm")
    want = np.maximum(second["stages_1/blocks_0/shortcut_norm"] + second["stages_1/blocks_0/norm_1"], 0)
    np.testing.assert_allclose(second["stages_1/blocks_0"], want, rtol=1e-6, atol=1e-6)


def trained(x: np.ndarray, labels: np.ndarray, steps: int) -> Any:
    """Returns variables after a few steps of gradient descent, as a training script has them."""
    network = build(EXAMPLE.config)

    def loss(params: Any, batch_stats: Any) -> tuple[jax.Array, Any]:
        variables = {"params": params, "batch_stats": batch_stats}
        logits, changed = network.apply(variables, x, train=True, mutable=["batch_stats"])
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)
        return -chosen.mean(), changed["batch_stats"]

    @jax.jit
    def step(variables: Any) -> Any:
        gradients, batch_stats = jax.grad(loss, has_aux=True)(variables["params"], variables["batch_stats"])
        params = jax.tree.map(lambda value, slope: value - 0.1 * slope, variables["params"], gradients)
        return {"params": params, "batch_stats": batch_stats}

    variables = EXAMPLE.variables()
    for _ in range(steps):
        variables = step(variables)
    return variables


def test_what_was_trained_is_what_is_served(serve: Callable[..., Served]) -> None:
    x = 3 + EXAMPLE.inputs(ROWS)
    variables = trained(x, np.array([0, 1, 2, 0]), steps=3)
    before, after = (each["batch_stats"]["stem_norm"]["mean"] for each in (EXAMPLE.variables(), variables))
    assert np.abs(after - before).max() > 0.01, "training did not store any statistics"
    logits = serve(EXAMPLE, variables).predict(x)
    np.testing.assert_array_equal(logits, EXAMPLE.apply(variables, x))
    apply = jax.jit(partial(build(EXAMPLE.config).apply, train=True, mutable=["batch_stats"]))
    of_the_batch, _ = apply(variables, x)
    assert np.abs(logits - of_the_batch).max() > 0.01, "statistics of the batch would give the same"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"widths": [4, 0]}, r"cnn's widths must be a list of positive sizes, not \[4, 0\]"),
        ({"blocks": 3}, "cnn's blocks must be a list of positive sizes, not 3"),
        (
            {"widths": [4], "blocks": [1, 2]},
            "cnn's widths and blocks must have one size for each stage, and one stage at least; "
            "there are 1 widths and 2 blocks",
        ),
        ({"widths": [], "blocks": []}, "one stage at least; there are 0 widths and 0 blocks"),
        ({"num_classes": 0}, "cnn's num_classes must be a positive number, not 0"),
        ({"act_fn": "reluu"}, "cnn has no act_fn 'reluu'; nearest: 'relu'"),
    ],
)
def test_refusals(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(given)


def test_an_input_that_is_no_image(config: Callable[..., ModelConfig]) -> None:
    message = r"the shape \[height, width, channels\], not \[8, 8\]"
    with pytest.raises(ConfigError, match=message):
        build_network(config(family="cnn", inputs={"image": {"shape": [8, 8]}}), {})
