"""Parameters as they were saved, and reduced as NumPy would, through every client."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import pytest

import fluoroscope

from .saved import batch
from .test_command_line import environment

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Saved
    from .server_process import ServerProcess


def leaves(variables: Any) -> dict[str, np.ndarray]:
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables)
    }


def same(found: np.ndarray | None, saved: np.ndarray) -> bool:
    return (
        found is not None and (found.dtype, found.shape) == (saved.dtype, saved.shape) and np.array_equal(found, saved)
    )


@pytest.mark.parametrize("model", ["relu", "convolutions", "transformer"])
def test_parameters_are_those_of_the_checkpoint(client: fluoroscope.Client, checkpoints: Saved, model: str) -> None:
    variables = {"relu": checkpoints.base["relu"], "convolutions": checkpoints.convolutions[1], **checkpoints.builtin}
    saved = leaves(variables[model])
    found = client.parameters(model)
    assert list(found) == list(saved)
    assert all(same(found[path].array, saved[path]) for path in saved)
    assert {each.kind for each in found.values()} == {fluoroscope.SiteKind.PARAMETER}
    assert (found.rows, found.program.bucket, found.program.flops, found.program.compiled) == (0, 0, 0.0, False)
    listed = {site.path: site for site in client.sites(model, kinds="parameter")}
    assert list(listed) == list(saved)
    for path, site in listed.items():
        assert (site.dtype, site.shape, site.bytes_per_example) == (
            saved[path].dtype,
            saved[path].shape,
            saved[path].nbytes,
        )
    assert not set(listed) & {site.path for site in client.sites(model)}, "only there if asked for"


def test_variables_of_nnx_are_named_as_in_the_module(client: fluoroscope.Client, checkpoints: Saved) -> None:
    found = client.parameters("perceptron")
    kernel = np.asarray(checkpoints.perceptron.first.kernel[...])
    assert same(found["first/kernel"].array, kernel)


def test_reductions_slices_and_casts(client: fluoroscope.Client, checkpoints: Saved) -> None:
    saved = leaves(checkpoints.base["relu"])
    kernels = [path for path in saved if path.endswith("kernel")]
    reduce = [fluoroscope.Histogram(bins=50), fluoroscope.Statistics(), fluoroscope.Norm(axes=0)]
    found = client.parameters("relu", "params/*/kernel", reduce=reduce)
    assert list(found) == kernels
    for path in kernels:
        histogram, statistics, norm = found[path].histogram, found[path].statistics, found[path].norm
        assert histogram is not None
        assert statistics is not None
        assert norm is not None
        assert int(histogram.counts.sum()) == saved[path].size
        assert statistics.std == pytest.approx(saved[path].astype(np.float64).std(), rel=1e-5)
        np.testing.assert_allclose(norm, np.linalg.norm(saved[path].astype(np.float64), axis=0), rtol=1e-5)
    cut = client.parameters("relu", kernels[0], slices=fluoroscope.Slice(0, 1, 3), dtype="float16")
    assert same(cut[kernels[0]].array, saved[kernels[0]][1:3].astype(np.float16))
    again = client.parameters("relu", "params/*/kernel", reduce=reduce)
    assert not again.program.compiled


def test_streams_and_the_asynchronous_client(
    client: fluoroscope.Client, server: ServerProcess, checkpoints: Saved
) -> None:
    saved = leaves(checkpoints.base["tanh"])
    seen: list[fluoroscope.Progress] = []
    assert [each.site for each in client.stream_parameters("tanh", "params/**", progress=seen.append)] == list(saved)
    assert seen[-1].byte_count == sum(leaf.nbytes for leaf in saved.values())
    assert tuple(seen[-1].stages) == ("decode", "compile", "queue", "compute", "device_to_host", "send")

    async def both() -> tuple[list[str], list[str]]:
        async with fluoroscope.AsyncClient(server.target) as asynchronous:
            whole = await asynchronous.parameters("tanh", ["params/Dense_0/*"])
            return list(whole), [each.site async for each in asynchronous.stream_parameters("tanh", "params/Dense_0/*")]

    first = ["params/Dense_0/bias", "params/Dense_0/kernel"]
    assert asyncio.run(both()) == (first, first)


def test_wrong_turns(client: fluoroscope.Client) -> None:
    with pytest.raises(fluoroscope.NotFoundError, match="nearest: 'params/Dense_0/kernel'") as missing:
        client.parameters("relu", "params/Dense_0/kernal")
    assert missing.value.reason == "SITE_NOT_FOUND"
    with pytest.raises(fluoroscope.InvalidRequestError, match=r"'Dense_\*' matches none of the 6 sites; nearest: 'par"):
        client.parameters("relu", "Dense_*")
    with pytest.raises(
        fluoroscope.LimitExceededError, match=r"the limit is 10 \(max_bytes of the request\): choose fewer"
    ) as large:
        client.parameters("relu", "**", max_bytes=10)
    assert large.value.reason == "INSPECTION_TOO_LARGE"
    with pytest.raises(fluoroscope.InvalidRequestError, match=r"asks for PARAMETER.*InspectParameters reads those"):
        client.inspect("relu", {"x": batch(1)}, sites="**", kinds="parameter")
    with pytest.raises(fluoroscope.NotFoundError, match="no version 8"):
        client.parameters("relu", version=8)
    with pytest.raises(fluoroscope.NotFoundError, match="no label 'stable'"):
        client.parameters("relu", label="stable")


def test_from_a_shell(server: ServerProcess, checkpoints: Saved, tmp_path: Path) -> None:
    saved = leaves(checkpoints.base["relu"])

    def run(*words: str) -> str:
        command = [sys.executable, "-m", "fluoroscope", "params", "relu", "params/**", *words]
        done = subprocess.run(
            command, capture_output=True, env=environment(server.target), cwd=tmp_path, timeout=120, check=True
        )
        return done.stdout.decode()

    answer = json.loads(run("--reduce", "statistics", "--output", "p.npz", "--json"))
    assert [each["site"] for each in answer["sites"]] == list(saved)
    assert [each["statistics"]["count"] for each in answer["sites"]] == [leaf.size for leaf in saved.values()]
    assert (answer["output"], answer["model"], "array" in answer["sites"][0]) == ("p.npz", "relu", False)
    with np.load(tmp_path / "p.npz") as stored:
        assert all(same(stored[path], leaf) for path, leaf in saved.items())
    head, *rows = run().splitlines()
    assert head.split() == ["site", "kind", "dtype", "shape", "mean", "std", "var", "min", "max", "zeros", "NaN", "Inf"]
    assert [row.split()[:2] for row in rows] == [[path, "parameter"] for path in saved]
