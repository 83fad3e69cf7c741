"""The decoder-only transformer: nothing is seen of what comes later, and its scan is its layers one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluoroscope_server.engine import SiteKind
from fluoroscope_server.errors import ConfigError
from fluoroscope_server.families import build_network
from fluoroscope_server.families.activation import ACTIVATIONS
from fluoroscope_server.families.transformer import Layer, build

from ...builtin_families import EXAMPLES

if TYPE_CHECKING:
    from collections.abc import Callable

    from fluoroscope_server.model_config import ModelConfig

    from .conftest import Served

EXAMPLE = EXAMPLES["transformer"]
ROWS, TOKENS, VOCABULARY, DEPTH = 4, 5, 11, 3


@pytest.fixture
def served(serve: Callable[..., Served]) -> Served:
    return serve(EXAMPLE)


def test_defaults() -> None:
    network = build({"vocab_size": 50})
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.ones((1, 7), int))
    assert shapes["params"]["layers"]["mlp"]["up"]["kernel"].shape == (6, 256, 1024)
    assert jax.eval_shape(network.apply, shapes, jnp.ones((5, 7), int)).shape == (5, 7, 50)


@pytest.mark.parametrize("changed", range(TOKENS))
def test_logits_depend_on_no_later_token(served: Served, changed: int) -> None:
    tokens = EXAMPLE.inputs(ROWS)
    others = tokens.copy()
    others[:, changed] = (tokens[:, changed] + 1 + np.arange(ROWS)) % VOCABULARY
    before, after = served.predict(tokens), served.predict(others)
    np.testing.assert_array_equal(after[:, :changed], before[:, :changed])
    assert (np.abs(after - before)[:, changed:].max(axis=-1) > 1e-4).all(), "and they depend on all earlier ones"


def test_the_order_of_earlier_tokens_matters(served: Served) -> None:
    """The last token sees the same tokens: without positions it could not tell."""
    tokens = np.array([[1, 2, 3, 4, 5]] * ROWS, np.int32)
    swapped = tokens[:, [1, 0, 2, 3, 4]]
    assert np.abs(served.predict(tokens) - served.predict(swapped))[:, -1].max() > 1e-3


def one_by_one(variables: Any, tokens: np.ndarray, intermediates: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """Returns what each module returns when there is no scan: each layer with its part of the stack of weights."""
    params = variables["params"]
    modules = {"embed": nn.Embed(VOCABULARY, 8), "norm": nn.LayerNorm(), "head": nn.Dense(VOCABULARY, use_bias=False)}
    layer = Layer(heads=2, hidden=24, act_fn=ACTIVATIONS["gelu"])

    def run(name: str, x: Any) -> Any:
        return modules[name].apply({"params": params[name]}, x)

    found = {"embed": run("embed", tokens)}
    stream = found["embed"]
    for index in range(DEPTH):
        weights = jax.tree.map(lambda leaf, index=index: leaf[index], params["layers"])
        inside = intermediates(layer, {"params": weights}, stream, None)
        stream = inside.pop("__call__")
        found |= {f"layers[{index}]/{path}": value for path, value in inside.items()} | {f"layers[{index}]": stream}
    found["norm"] = run("norm", stream)
    found["head"] = found["__call__"] = run("head", found["norm"])
    return found


def test_the_scan_is_its_layers_one_by_one(served: Served, intermediates: Callable[..., dict[str, Any]]) -> None:
    tokens = EXAMPLE.inputs(ROWS)
    want = one_by_one(served.variables, tokens, intermediates)["__call__"]
    np.testing.assert_allclose(served.predict(tokens), want, rtol=1e-4, atol=1e-5)


def test_module_sites_are_what_the_modules_return(served: Served, intermediates: Callable[..., dict[str, Any]]) -> None:
    tokens = EXAMPLE.inputs(ROWS)
    want = one_by_one(served.variables, tokens, intermediates)
    stacked = [path.replace("[0]", "[*]") for path in want if path.startswith("layers[0]")]
    want |= {path: np.stack([want[path.replace("*", str(each))] for each in range(DEPTH)]) for path in stacked}
    found = served.capture(tokens, "**", *stacked, kinds=(SiteKind.MODULE,))
    assert found.keys() == want.keys()
    for site, value in found.items():
        np.testing.assert_allclose(value, want[site], rtol=1e-4, atol=1e-5, err_msg=site, strict=True)


def test_attention_is_seen_in_each_layer(served: Served) -> None:
    found = served.capture(EXAMPLE.inputs(ROWS), "layers[?]/attn/softmax:0")
    assert list(found) == [f"layers[{index}]/attn/softmax:0" for index in range(DEPTH)]
    for weights in found.values():
        assert weights.shape == (ROWS, 2, TOKENS, TOKENS)
        np.testing.assert_allclose(weights.sum(axis=-1), np.ones((ROWS, 2, TOKENS)), rtol=1e-5)
        np.testing.assert_array_equal(np.triu(weights, 1), 0)


def test_the_inside_of_an_mlp_is_seen_in_each_layer(served: Served) -> None:
    found = served.capture(EXAMPLE.inputs(ROWS), "layers[1]/mlp/up", "layers[1]/mlp/hidden")
    want = ACTIVATIONS["gelu"](found["layers[1]/mlp/up"])
    np.testing.assert_allclose(found["layers[1]/mlp/hidden"], want, rtol=1e-5, atol=1e-6)


def test_a_token_beyond_the_vocabulary_is_not_silent(served: Served) -> None:
    tokens = EXAMPLE.inputs(ROWS)
    tokens[1, 2] = VOCABULARY
    assert np.isnan(served.predict(tokens)).all(axis=(1, 2)).tolist() == [False, True, False, False]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "transformer's config must say vocab_size, for which nothing can be assumed; it says nothing"),
        ({"vocab_size": 0}, "transformer's vocab_size must be a positive number, not 0"),
        ({"vocab_size": 9, "width": []}, r"transformer's width must be a positive number, not \[\]"),
        ({"vocab_size": 9, "depth": "3"}, "transformer's depth must be a positive number, not '3'"),
        ({"vocab_size": 9, "heads": 0}, "transformer's heads must be a positive number, not 0"),
        ({"vocab_size": 9, "mlp_ratio": 0.5}, "transformer's mlp_ratio must be a positive whole number, not 0.5"),
        ({"vocab_size": 9, "width": 10, "heads": 4}, "width must be a multiple of its heads, and 10 is no multiple"),
        (
            {"vocab_size": 9, "width": 12, "heads": 4},
            "transformer's heads must be of even size, .*; a width of 12 and 4 heads make a size of 3",
        ),
        ({"vocab_size": 9, "act_fn": 1}, "transformer has no act_fn 1; nearest: 'identity'"),
    ],
)
def test_refusals(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(given)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"shape": [], "dtype": "int32"}, r"a sequence of tokens has the shape \[sequence\], not \[\]"),
        ({"shape": [5, 3], "dtype": "int32"}, r"a sequence of tokens has the shape \[sequence\], not \[5, 3\]"),
        ({"shape": [5]}, r"tokens: float32\[batch, 5\]: .* integer"),
    ],
)
def test_an_input_that_is_no_sequence(spec: dict[str, Any], message: str, config: Callable[..., ModelConfig]) -> None:
    with pytest.raises(ConfigError, match=message):
        build_network(config(family="transformer", config={"vocab_size": 9}, inputs={"tokens": spec}), {})
