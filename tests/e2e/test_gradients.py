"""Gradients, from the client and from a shell, against JAX's own of the network that was saved."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from click.testing import CliRunner

import fluoroscope
from fluoroscope.cli import main

from . import saved
from .conftest import CLASSES, HIDDEN

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Saved
    from .server_process import ServerProcess

LABELS = np.array([3, 0, 4])


def of_inputs_and_parameters(variables: Any, x: np.ndarray) -> tuple[Any, Any]:
    """Returns the gradients of the cross-entropy."""

    def loss(x: jax.Array, variables: Any) -> jax.Array:
        logits = saved.base_network("swish", HIDDEN, CLASSES).apply(variables, x)
        assert isinstance(logits, jax.Array)
        return -jnp.sum(jax.nn.log_softmax(logits)[jnp.arange(len(LABELS)), LABELS])

    found: tuple[Any, Any] = jax.grad(loss, argnums=(0, 1))(jnp.asarray(x), variables)
    return found


def close(mine: np.ndarray | None, theirs: Any) -> None:
    np.testing.assert_allclose(np.asarray(mine), np.asarray(theirs), rtol=1e-4, atol=1e-5)


def test_gradients_of_a_loss(client: fluoroscope.Client, checkpoints: Saved) -> None:
    x, variables = saved.batch(3), checkpoints.base["swish"]
    asked = fluoroscope.Gradient("logits", labels=LABELS, inputs="x", parameters="params/Dense_*/kernel")
    found = client.inspect("swish", {"x": x}, sites="Dense_2", gradient=asked, outputs=["logits"])
    inputs, parameters = of_inputs_and_parameters(variables, x)
    assert list(found) == ["inputs/x", *(f"params/Dense_{layer}/kernel" for layer in range(3)), "Dense_2"]
    assert all(each.is_gradient for each in found.values())
    assert [each.kind for each in found.values()] == ["INPUT", *["PARAMETER"] * 3, "MODULE"]
    close(found["inputs/x"].array, inputs)
    for layer in range(3):
        close(found[f"params/Dense_{layer}/kernel"].array, parameters["params"][f"Dense_{layer}"]["kernel"])
    probabilities = jax.nn.softmax(found.outputs["logits"])
    close(found["Dense_2"].array, probabilities - np.eye(CLASSES)[LABELS])
    assert found.program.flops_fraction > 2
    plan = client.plan("swish", {"x": x}, sites=(), gradient=asked)
    assert plan.program.flops <= found.program.flops
    assert [each.site for each in plan.results] == list(found)[:-1]


def test_gradients_behind_an_edit_and_reduced(client: fluoroscope.Client) -> None:
    """Nothing flows through a layer that was set; the norm of each example is on the device."""
    x = saved.batch(3)
    gradient = fluoroscope.Gradient("logits", index=2, inputs="*")
    question: dict[str, Any] = {"sites": "Dense_0", "reduce": fluoroscope.Norm(axes=-1), "gradient": gradient}
    plain = client.inspect("tanh", {"x": x}, **question)
    edited = client.inspect("tanh", {"x": x}, **question, edits=fluoroscope.Zero("Dense_1", rows=[0, 2]))
    for site in ("inputs/x", "Dense_0"):
        norms = plain[site].norm
        assert norms is not None
        assert norms.all()
        close(edited[site].norm, norms * [0, 1, 0])


def test_gradients_of_a_scanned_network_of_integers(client: fluoroscope.Client) -> None:
    spec = client.model("transformer").inputs[0]
    inputs = {spec.name: np.zeros((1, *spec.shape[1:]), spec.dtype)}
    gradient = fluoroscope.Gradient("logits", index=1)
    found = client.inspect("transformer", inputs, sites="layers[?]", kinds="module", gradient=gradient)
    assert len(found) > 1
    assert all(np.isfinite(each.array).all() and each.array.any() for each in found.values())
    with pytest.raises(fluoroscope.NotCapturableError, match=r"it is int32, and gradients are of floats"):
        client.inspect("transformer", inputs, sites=(), gradient=fluoroscope.Gradient("logits", index=1, inputs="*"))


def test_gradients_from_a_shell(server: ServerProcess, checkpoints: Saved, tmp_path: Path) -> None:
    x = saved.batch(3)
    np.save(tmp_path / "x.npy", x)
    words = ["inspect", "swish", f"x=@{tmp_path}/x.npy", "--loss", "logits=3,0,4", "--wrt", "inputs/x", "--json"]
    result = CliRunner(env={"FLUOROSCOPE_SERVER": server.target}).invoke(main, words, catch_exceptions=False)
    (site,) = json.loads(result.stdout)["sites"]
    assert (site["site"], site["is_gradient"]) == ("inputs/x", True)
    close(site["array"]["data"], of_inputs_and_parameters(checkpoints.base["swish"], x)[0])


def test_wrong_gradients(client: fluoroscope.Client) -> None:
    x = saved.batch(2)

    def inspect(gradient: fluoroscope.Gradient, sites: Any = "Dense_0") -> None:
        client.inspect("tanh", {"x": x}, sites=sites, gradient=gradient)

    with pytest.raises(fluoroscope.InvalidRequestError, match="there is no output 'logit'; the outputs are logits"):
        inspect(fluoroscope.Gradient("logit", index=0))
    with pytest.raises(fluoroscope.InvalidRequestError, match="an index is 5; the last axis") as raised:
        inspect(fluoroscope.Gradient("logits", labels=[0, 5]))
    assert raised.value.field == "gradient.cross_entropy"
    with pytest.raises(fluoroscope.InvalidRequestError, match="of an index or of labels: give one"):
        inspect(fluoroscope.Gradient("logits"))
    with pytest.raises(fluoroscope.InvalidRequestError, match="no sites are given"):
        inspect(fluoroscope.Gradient("logits", index=0), sites=())
    with pytest.raises(fluoroscope.NotFoundError, match="no site 'params/Dense_9'; nearest"):
        inspect(fluoroscope.Gradient("logits", index=0, parameters="params/Dense_9"))
