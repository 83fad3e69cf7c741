"""Networks of every kind that an operator can bring, from their checkpoints to their sites."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import jax
import ml_dtypes
import numpy as np
import pytest
from flax import nnx

import fluoroscope
from fluoroscope_server.families.catalogue import BUILTIN

from ..builtin_families import EXAMPLES
from .networks.networks_of_tests import attention
from .saved import batch

if TYPE_CHECKING:
    from .conftest import Saved


def paths(client: fluoroscope.Client, model: str, kind: str) -> list[str]:
    return [site.path for site in client.sites(model, kinds=kind)]


def test_a_linen_network_with_running_averages(client: fluoroscope.Client, checkpoints: Saved) -> None:
    network, variables = checkpoints.convolutions
    image = batch(4, 8, 8, 1)
    expected = jax.jit(partial(network.apply, train=False))(variables, image)

    assert np.array_equal(client.predict("convolutions", {"image": image})["logits"], expected)
    found = client.inspect("convolutions", {"image": image}, sites=["head", "BatchNorm_1"], outputs=["logits"])

    assert list(found) == ["BatchNorm_1", "head"]
    assert np.array_equal(found["head"].array, expected)
    assert np.array_equal(found.outputs["logits"], expected)
    modules = ["Conv_0", "BatchNorm_0", "Conv_1", "BatchNorm_1", "head", "__call__"]
    assert paths(client, "convolutions", "MODULE") == modules
    (site,) = client.sites("convolutions", "Conv_1")
    assert (site.shape, site.dtype, site.bytes_per_example) == ((-1, 8, 8, 4), np.dtype(np.float32), 8 * 8 * 4 * 4)
    assert client.model("convolutions").version == 300
    assert client.model("convolutions").family == "networks_of_tests:convolutions"


def test_an_nnx_network_saved_directly(client: fluoroscope.Client, checkpoints: Saved) -> None:
    graph, state = nnx.split(checkpoints.perceptron)
    x = batch(4, 5)
    expected = jax.jit(lambda state, x: nnx.merge(graph, state)(x))(state, x)

    assert np.array_equal(client.predict("perceptron", {"x": x})["output"], expected)
    found = client.inspect("perceptron", {"x": x}, sites=["first", "second"])

    assert list(found) == ["first", "second"]
    assert np.array_equal(found["second"].array, expected)
    assert found["first"].shape == (4, 9)
    assert paths(client, "perceptron", "MODULE") == ["first", "dropout", "second", "__call__"]
    assert "gelu:0" in paths(client, "perceptron", "EQUATION"), "which JAX inlines"
    assert client.model("perceptron").parameter_count == 5 * 9 + 9 + 9 * 2 + 2


def test_a_pure_function_of_two_inputs_and_two_outputs(client: fluoroscope.Client, checkpoints: Saved) -> None:
    inputs = {"tokens": batch(4, 3), "mask": np.array([True, False, True, True])}
    expected = jax.jit(attention)(checkpoints.function, inputs)

    answer = client.predict("function", inputs)

    assert answer.keys() == {"weights", "halved"}
    assert np.array_equal(answer["weights"], expected["weights"])
    assert answer["halved"].dtype == ml_dtypes.bfloat16
    assert answer["halved"].tobytes() == np.asarray(expected["halved"]).tobytes()
    assert client.predict("function", inputs, outputs=["halved"]).keys() == {"halved"}
    found = client.inspect("function", inputs, sites="weights", outputs=["halved"])
    assert found["weights"].kind is fluoroscope.SiteKind.NAMED
    assert np.array_equal(found["weights"].array, expected["weights"])
    assert found.outputs["halved"].dtype == ml_dtypes.bfloat16
    assert paths(client, "function", "NAMED") == ["weights"]
    assert {"dot_general:0", "_where:0", "softmax:0"} < set(paths(client, "function", "EQUATION"))


@pytest.mark.parametrize("family", BUILTIN)
def test_a_builtin_family(client: fluoroscope.Client, checkpoints: Saved, family: str) -> None:
    example = EXAMPLES[family]
    x = example.inputs(4)
    expected = example.apply(checkpoints.builtin[family], x)

    found = client.inspect(family, {"x": x}, sites="__call__", outputs=["logits"])

    assert np.array_equal(client.predict(family, {"x": x})["logits"], expected)
    assert np.array_equal(found.outputs["logits"], expected)
    np.testing.assert_allclose(found["__call__"].array, expected, rtol=1e-4, atol=1e-5)
    assert client.model(family).family == family


def test_the_models_are_described(client: fluoroscope.Client, checkpoints: Saved) -> None:
    models = client.models()

    assert [model.name for model in models] == sorted(checkpoints.folders)
    described = {model.name: model for model in models}
    assert {model.state for model in models} == {fluoroscope.ModelState.READY}
    assert [str(spec) for spec in described["function"].inputs] == ["tokens: float32[batch, 3]", "mask: bool[batch]"]
    assert [str(spec) for spec in described["function"].outputs] == [
        "halved: bfloat16[batch, 7]",
        "weights: float32[batch, 7]",
    ]
    assert (described["relu"].version, described["relu"].buckets) == (7, (2, 8))
    assert described["relu"].parameter_count == sum(leaf.size for leaf in jax.tree.leaves(checkpoints.base["relu"]))
    assert described["relu"].site_count == len(client.sites("relu"))
