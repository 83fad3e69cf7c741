"""Two inputs compared inside a network, through every client, against what inspections of each bring."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import fluoroscope

from .conftest import HIDDEN
from .saved import STEP, batch
from .test_command_line import environment

if TYPE_CHECKING:
    from pathlib import Path

    from .server_process import ServerProcess

COUNT = 2 * len(HIDDEN) + 1
X = batch(3, seed=1)
Y = X + np.float32(0.01)


@pytest.mark.parametrize("model", ["relu", "transformer"])
def test_two_inputs(client: fluoroscope.Client, model: str) -> None:
    spec = client.model(model).inputs[0]
    generator = np.random.default_rng(0)
    x: Any
    y: Any
    if spec.dtype == np.int32:
        x, y = (generator.integers(0, 5, size=(3, *spec.shape[1:])).astype(np.int32) for _ in range(2))
    else:
        x, y = X, Y
    found = client.compare(model, {spec.name: x}, {spec.name: y}, kinds="module")
    alone = [client.inspect(model, {spec.name: each}, sites="**", kinds="module") for each in (x, y)]
    assert list(found) == list(alone[0])
    assert found.first_divergence is not None
    for site, comparison in found.items():
        a, b = (np.asarray(each[site].array, np.float64) for each in alone)
        apart = np.abs(a - b)
        norms = np.linalg.norm(a) * np.linalg.norm(b)
        assert comparison.count == a.size
        np.testing.assert_allclose(
            [comparison.max_abs_difference, comparison.mean_abs_difference, comparison.rms_difference],
            [apart.max(), apart.mean(), np.sqrt((apart**2).mean())],
            rtol=1e-3,
            atol=1e-5,
        )
        assert comparison.cosine_similarity == pytest.approx((a * b).sum() / norms, abs=1e-4)
        assert comparison.diverges is bool(comparison.divergent_count)


def test_the_same_has_the_same_bits_and_either_client_says_so(
    client: fluoroscope.Client, server: ServerProcess
) -> None:
    found = client.compare("tanh", {"x": X}, versions=(STEP, None), sites="activations/*")
    assert (list(found), found.versions, found.rows) == (
        [f"activations/{index}" for index in range(COUNT)],
        (STEP, STEP),
        3,
    )
    assert all(each.identical for each in found.values())
    assert (found.first_divergence, found.not_compared) == (None, {})
    assert tuple(found.stages) == ("decode", "compile", "queue", "pad", "compute", "send")
    assert [program.bucket for program in found.programs] == [8, 8]

    async def again() -> fluoroscope.Comparison:
        async with fluoroscope.AsyncClient(server.target) as asynchronous:
            return await asynchronous.compare("tanh", {"x": X}, {"x": Y}, sites="activations/*", rtol=1.0, atol=1.0)

    apart = asyncio.run(again())
    assert (apart.rtol, apart.atol, apart.first_divergence) == (1.0, 1.0, None)
    assert not any(program.compiled for program in apart.programs)
    assert not any(each.identical for each in apart.values())


def test_wrong_turns(client: fluoroscope.Client) -> None:
    inputs = {"x": X}
    with pytest.raises(fluoroscope.InvalidRequestError, match="nothing to compare with"):
        client.compare("relu", inputs)
    with pytest.raises(fluoroscope.InvalidRequestError, match="expected two, such as"):
        client.compare("relu", inputs, versions=(1,))  # type: ignore[arg-type]  # that is what is wrong
    with pytest.raises(fluoroscope.InvalidRequestError, match="left side have 3 rows, and those of the right 2"):
        client.compare("relu", inputs, {"x": X[:2]})
    with pytest.raises(
        fluoroscope.NotFoundError, match=f"on the right side, .* has no version 8; it has {STEP} loaded"
    ):
        client.compare("relu", inputs, versions=(STEP, 8))
    with pytest.raises(fluoroscope.NotFoundError, match="no site 'Dense_9'; nearest: 'Dense_"):
        client.compare("relu", inputs, {"x": Y}, sites=["Dense_0", "Dense_9"])
    with pytest.raises(fluoroscope.InvalidRequestError, match=r"'Dens_\*' matches none of the"):
        client.compare("relu", inputs, {"x": Y}, sites="Dens_*")


def test_from_a_shell(server: ServerProcess, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", X)
    np.save(tmp_path / "b.npy", Y)

    def run(*words: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "fluoroscope", "compare", "relu", "x=@a.npy", *words]
        done = subprocess.run(
            command, capture_output=True, env=environment(server.target), cwd=tmp_path, timeout=120, check=False
        )
        assert done.returncode == code, done.stderr.decode()
        return done.stdout.decode() + done.stderr.decode()

    head, *rows, last = run("--with", "x=@b.npy", "Dense_?", "--check", code=5).splitlines()
    columns = "site kind dtype shape max abs max rel mean abs rms cosine identical divergent"
    assert head.split() == columns.split()
    assert [row.split()[:3] for row in rows] == [[f"Dense_{index}", "module", "float32"] for index in range(3)]
    assert last == f"version {STEP}, 3 rows, 3 sites: the first to diverge is Dense_0"
    answer: Any = json.loads(run("--versions", f"{STEP},{STEP}", "--check", "--json"))
    assert (answer["versions"], answer["first_divergence"], answer["rows"]) == ([STEP, STEP], None, 3)
    assert {each["site"] for each in answer["sites"]} >= {"Dense_0", "Dense_1", "Dense_2"}
    assert {each["max_abs_difference"] for each in answer["sites"]} == {0.0}
    assert {each["kind"] for each in answer["sites"]} == {"MODULE"}
    assert "there is nothing to compare with" in run("Dense_0", code=2)
    assert "is not FIRST,SECOND" in run("--versions", "7", code=2)
