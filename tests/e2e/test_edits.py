"""Edits, from the client and from a shell: what comes back is what the network computes with them by hand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner

import fluoroscope
from fluoroscope.cli import main

from .saved import batch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Saved
    from .server_process import ServerProcess


def by_hand(variables: Any, x: Any, edit: Callable[[str, Any], Any] = lambda _, value: value) -> dict[str, Any]:
    """Computes the relu network in float64; returns the value of each dense layer and activation."""
    values: dict[str, Any] = {}
    value, layers = np.asarray(x, np.float64), variables["params"]
    for number in range(len(layers)):
        own = layers[f"Dense_{number}"]
        value = value @ np.asarray(own["kernel"], np.float64) + np.asarray(own["bias"], np.float64)
        values[f"Dense_{number}"] = value = edit(f"Dense_{number}", value)
        if number < len(layers) - 1:
            values[f"relu:{number}"] = value = edit(f"relu:{number}", np.maximum(value, 0))
    return values


@pytest.mark.parametrize("execution", ["fused", "staged"])
def test_edits_are_what_the_network_goes_on_with(
    client: fluoroscope.Client, checkpoints: Saved, execution: Any
) -> None:
    variables, x, other = checkpoints.base["relu"], batch(5), batch(5, seed=1)
    clean = by_hand(variables, other)
    edits = [
        fluoroscope.Scale("Dense_0", -1.0, rows=[0, 3]),
        fluoroscope.PatchFromInputs("relu:0", {"x": other}, units=[1, 2]),
        fluoroscope.MeanAblate("Dense_1", slices=fluoroscope.Slice(1, 4)),
    ]

    def edit(path: str, value: Any) -> Any:
        if path == "Dense_0":
            value[[0, 3]] *= -1
        if path == "relu:0":
            value[:, 1:3] = clean[path][:, 1:3]
        if path == "Dense_1":
            value[:, 4:] = value.mean(0)[4:]
        return value

    expected = by_hand(variables, x, edit)
    found = client.inspect(
        "relu", {"x": x}, sites=["Dense_*", "relu:?"], outputs=["logits"], edits=edits, execution=execution
    )
    assert set(found) == set(expected)
    for path, value in expected.items():
        np.testing.assert_allclose(np.asarray(found[path].array), value, rtol=1e-4, atol=1e-4, err_msg=path)
    np.testing.assert_allclose(found.outputs["logits"], expected["Dense_2"], rtol=1e-4, atol=1e-4)
    assert client.plan("relu", {"x": x}, sites="Dense_2", edits=edits).flops_fraction > 1


def test_a_sweep_compiles_once(client: fluoroscope.Client) -> None:
    x = batch(2)
    compiled = [
        client.inspect("elu", {"x": x}, sites="Dense_2", edits=fluoroscope.Zero("Dense_1", units=unit)).program.compiled
        for unit in range(4)
    ]
    assert compiled == [True, False, False, False]


def test_edits_from_a_shell(server: ServerProcess, checkpoints: Saved, tmp_path: Path) -> None:
    x, other = batch(2), batch(1, seed=1)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "other.npy", other)
    edits = ["set Dense_0 to=0.5 units=3", f"patch Dense_1 x=@{tmp_path}/other.npy rows=1"]
    words = ["inspect", "relu", f"x=@{tmp_path}/x.npy", "__call__", "--json"]
    words += [word for edit in edits for word in ("--edit", edit)]
    result = CliRunner(env={"FLUOROSCOPE_SERVER": server.target}).invoke(main, words, catch_exceptions=False)
    clean = by_hand(checkpoints.base["relu"], other)

    def edit(path: str, value: Any) -> Any:
        if path == "Dense_0":
            value[:, 3] = 0.5
        if path == "Dense_1":
            value[1] = clean[path][0]
        return value

    expected = by_hand(checkpoints.base["relu"], x, edit)["Dense_2"]
    (site,) = json.loads(result.stdout)["sites"]
    np.testing.assert_allclose(site["array"]["data"], expected, rtol=1e-4, atol=1e-4)


def test_wrong_edits(client: fluoroscope.Client) -> None:
    x = batch(2)

    def inspect(edit: fluoroscope.Edit) -> None:
        client.inspect("relu", {"x": x}, sites="Dense_2", edits=edit)

    with pytest.raises(fluoroscope.NotFoundError, match="no site 'Dense_9'; nearest: 'Dense_"):
        inspect(fluoroscope.Zero("Dense_9"))
    with pytest.raises(
        fluoroscope.InvalidRequestError, match=r"value has shape \(3,\).*must have that shape"
    ) as raised:
        inspect(fluoroscope.Add("Dense_0", [1, 2, 3]))
    assert raised.value.field == "edits[0].add.value"
    with pytest.raises(fluoroscope.InvalidRequestError, match="2 is out of range: the batch has 2 rows, 0 to 1"):
        inspect(fluoroscope.Zero("Dense_0", rows=2))
    with pytest.raises(fluoroscope.InvalidRequestError, match="came as float64") as raised:
        inspect(fluoroscope.PatchFromInputs("Dense_0", {"x": x.astype(np.float64)}))
    assert raised.value.field == "edits[0].patch_from_inputs.inputs[x]"
    with pytest.raises(fluoroscope.InvalidRequestError, match="have 3 rows, and those of the request 2"):
        inspect(fluoroscope.PatchFromInputs("Dense_0", {"x": batch(3)}))
    with pytest.raises(fluoroscope.InvalidRequestError, match="no known change is set; the known are zero, set"):
        inspect(_Nothing("Dense_0"))


class _Nothing(fluoroscope.Edit):
    """An edit that a later version of the contract may know."""

    def fill(self, message: Any) -> None:
        """Says nothing."""
