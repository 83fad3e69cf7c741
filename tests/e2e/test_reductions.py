"""Reductions on a real server, through the client and the command line, against NumPy."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import fluoroscope
from fluoroscope import (
    Correlation,
    Covariance,
    DeadUnits,
    Full,
    Histogram,
    Mean,
    Norm,
    Quantiles,
    Statistics,
    TopK,
)

from .saved import batch

if TYPE_CHECKING:
    from pathlib import Path

    from .server_process import ServerProcess

SITES = ["activations/0", "activations/1", "activations/4"]
EVERYTHING: list[fluoroscope.Reduction[Any]] = [
    Full(),
    Statistics(),
    Histogram(bins=7),
    Histogram(bins=7, low=-1, high=1),
    Histogram(bins=9, low=0),
    Quantiles(0.05, 0.5, 0.95),
    Quantiles(0.1),
    Norm(axes=-1),
    Norm(axes=0, order=1),
    Norm(order=math.inf),
    Mean(axes=[0, 1]),
    TopK(3),
    TopK(1),
    DeadUnits(),
    Covariance(),
    Correlation(),
]


@pytest.fixture(scope="module")
def found(client: fluoroscope.Client) -> fluoroscope.Inspection:
    return client.inspect("relu", {"x": batch(5)}, sites=SITES, reduce=EVERYTHING)


@pytest.mark.parametrize("site", SITES)
def test_nothing_is_lost_and_all_is_right(found: fluoroscope.Inspection, site: str) -> None:
    activation = found[site]
    value = activation[Full()]
    assert set(activation.results) == set(EVERYTHING)
    assert (activation.shape, activation.dtype) == (value.shape, np.dtype(np.float32))

    assert activation[Statistics()].mean == pytest.approx(value.mean(), abs=1e-6)
    for histogram, ends in ((Histogram(bins=7), None), (Histogram(bins=7, low=-1, high=1), (-1, 1))):
        counts, edges = np.histogram(value, 7, ends)
        np.testing.assert_array_equal(activation[histogram].counts, counts)
        np.testing.assert_allclose(activation[histogram].edges, edges, atol=1e-6)
    for quantiles in (Quantiles(0.05, 0.5, 0.95), Quantiles(0.1)):
        want = np.quantile(value, quantiles.probabilities)
        np.testing.assert_allclose(activation[quantiles].values, want, rtol=1e-5, atol=1e-6)
    assert activation[Quantiles(0.05, 0.5, 0.95)][0.5] == pytest.approx(np.median(value), abs=1e-6)
    np.testing.assert_allclose(activation[Norm(axes=-1)], np.linalg.norm(value, axis=-1), rtol=1e-5)
    np.testing.assert_allclose(activation[Norm(axes=0, order=1)], np.abs(value).sum(0), rtol=1e-5, atol=1e-6)
    assert activation[Norm(order=math.inf)] == np.abs(value).max()
    assert activation[Mean(axes=(0, 1))] == pytest.approx(value.mean(), abs=1e-6)
    np.testing.assert_array_equal(activation[TopK(3)].values, np.sort(value)[:, :-4:-1])
    np.testing.assert_array_equal(activation[TopK(1)].indices[:, 0], value.argmax(-1))
    dead = activation[DeadUnits()]
    np.testing.assert_array_equal(dead.zero_counts, (value == 0).sum(0))
    assert dead.sample_count == 5
    np.testing.assert_array_equal(dead.indices, np.flatnonzero((value == 0).all(0)))
    np.testing.assert_allclose(activation[Covariance()].matrix, np.cov(value.T, bias=True), atol=1e-5)
    with np.errstate(invalid="ignore", divide="ignore"):
        np.testing.assert_allclose(activation[Correlation()].matrix, np.corrcoef(value.T), atol=1e-4)


def test_what_was_asked_for_once_has_a_name(found: fluoroscope.Inspection) -> None:
    activation = found["activations/1"]
    assert activation.array is activation[Full()]
    assert activation.mean is activation[Mean(axes=(0, 1))]
    assert activation.dead_units is activation[DeadUnits()]
    assert activation.covariance is activation[Covariance()]
    with pytest.raises(ValueError, match=r"3 of a kind .* 'activations/1'; say which: activation\[Histogram\(bins=7"):
        _ = activation.histogram
    with pytest.raises(KeyError, match=r"TopK\(k=2\) of 'activations/1' was not asked for, but Correlation\(\), "):
        _ = activation[TopK(2)]


def test_batches_add_up_to_the_data_set(client: fluoroscope.Client) -> None:
    """A unit is dead over a data set if it is dead in each batch; covariances go by Chan's formula."""
    batches = [batch(rows, seed=rows) for rows in (1, 3, 8, 5)]
    found = [
        client.inspect("relu", {"x": x}, sites="activations/1", reduce=[Full(), DeadUnits(), Covariance()])[
            "activations/1"
        ]
        for x in batches
    ]
    whole = np.concatenate([each[Full()] for each in found])
    dead = sum([each[DeadUnits()] for each in found[1:]], found[0][DeadUnits()])
    np.testing.assert_array_equal(dead.indices, np.flatnonzero((whole == 0).all(0)))
    assert dead.sample_count == len(whole) == 17
    covariance = sum([each[Covariance()] for each in found[1:]], found[0][Covariance()])
    np.testing.assert_allclose(covariance.matrix, np.cov(whole.T.astype(np.float64), bias=True), atol=1e-5)
    np.testing.assert_allclose(covariance.mean, whole.mean(0), atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float32"])
def test_another_type(client: fluoroscope.Client, dtype: str) -> None:
    x = {"x": batch(3)}
    plain = client.inspect("relu", x, sites="activations/0", reduce=[Full(), TopK(2)])["activations/0"]
    cast = client.inspect("relu", x, sites="activations/0", reduce=[Full(), TopK(2)], dtype=dtype)["activations/0"]
    assert cast.dtype == np.float32
    assert cast[Full()].dtype.name == cast[TopK(2)].values.dtype.name == dtype
    assert cast.scale is None
    want = plain[Full()].astype(cast[Full()].dtype)
    np.testing.assert_array_equal(cast[Full()].astype(np.float32), want.astype(np.float32))
    np.testing.assert_array_equal(cast[TopK(2)].indices, plain[TopK(2)].indices)


def test_int8(client: fluoroscope.Client) -> None:
    x = {"x": batch(3)}
    asked = [Full(), TopK(2), Norm(axes=-1), DeadUnits()]
    plain = client.inspect("relu", x, sites="activations/1", reduce=asked)["activations/1"]
    cast = client.inspect("relu", x, sites="activations/1", reduce=asked, dtype="int8")["activations/1"]
    assert cast[Full()].dtype == np.int8
    assert cast.scale == pytest.approx(np.abs(plain[Full()]).max() / 127, rel=1e-6)
    np.testing.assert_allclose(cast[Full()] * cast.scale, plain[Full()], atol=0.51 * float(cast.scale))
    pairs = [(cast[TopK(2)].values, plain[TopK(2)].values), (cast[Norm(axes=-1)], plain[Norm(axes=-1)])]
    for mine, theirs in pairs:
        assert mine.dtype == np.float32
        np.testing.assert_allclose(mine, theirs, atol=theirs.max() / 250)
    np.testing.assert_array_equal(cast[DeadUnits()].zero_counts, plain[DeadUnits()].zero_counts)


def test_each_reduction_comes_whole_in_a_stream(client: fluoroscope.Client) -> None:
    stream = client.stream("relu", {"x": batch(2)}, sites=SITES, reduce=EVERYTHING, outputs=["logits"])
    kinds = [next(iter(each.results)) for each in stream]
    assert len(kinds) == len(SITES) * len(EVERYTHING) + 1
    assert set(kinds) == set(EVERYTHING)


def test_numbers_cause_no_compile(client: fluoroscope.Client) -> None:
    def compiled(*reduce: fluoroscope.Reduction[Any]) -> bool:
        return client.inspect("relu", {"x": batch(2)}, sites="activations/2", reduce=reduce).program.compiled

    compiled(Histogram(bins=33, low=0.5), Quantiles(0.25, 0.75))
    assert not compiled(Histogram(bins=33, low=-7, high=1), Quantiles(0.1, 0.2))


@pytest.mark.parametrize(
    ("reduce", "field", "message"),
    [
        (Histogram(bins=10_001), "histogram.bins", "bins is 10001; expected 1 to 10,000"),
        (Histogram(low=math.nan), "histogram.low", "low is nan"),
        (Histogram(low=1, high=0), "histogram.low", "low is 1.0 and high is 0.0"),
        (Quantiles(2), "quantiles.probabilities[0]", "a probability is 2.0; expected 0 to 1"),
        (Quantiles(), "quantiles.probabilities", "there are 0 probabilities"),
        (TopK(1000), "top_k.k", "k is 1000, and the last axis of site 'activations/0' has"),
        (Norm(axes=7), "norm.axes", "site 'activations/0' has no axis 7: it has axes 0 to 1, or -2 to -1"),
        (Mean(axes=(0, -2)), "mean.axes", "are not all different"),
    ],
)
def test_what_cannot_be_reduced_so(
    client: fluoroscope.Client, reduce: fluoroscope.Reduction[Any], field: str, message: str
) -> None:
    with pytest.raises(fluoroscope.InvalidRequestError) as caught:
        client.inspect("relu", {"x": batch(2)}, sites="activations/0", reduce=reduce)
    assert message in caught.value.message
    assert caught.value.field == f"captures[0].reductions[0].{field}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dtype": "int32"}, "values cannot be cast to int32, only to float32, float16, bfloat16"),
        ({"dtype": "int8", "reduce": Statistics()}, "no reduction of this capture gives a tensor"),
        ({"reduce": [TopK(1)] * 101}, "there are 101 reductions; expected at most 100"),
    ],
)
def test_what_cannot_be_asked(client: fluoroscope.Client, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(fluoroscope.InvalidRequestError, match=message):
        client.inspect("relu", {"x": batch(2)}, sites="activations/0", **arguments)


# --- the command line


def run(server: ServerProcess, folder: Path, *words: str) -> str:
    np.save(folder / "x.npy", batch(3))
    done = subprocess.run(
        [sys.executable, "-m", "fluoroscope", "inspect", "relu", "x=@x.npy", *words],
        capture_output=True,
        env={**os.environ, "FLUOROSCOPE_SERVER": server.target, "COLUMNS": "200", "PYTHONIOENCODING": "utf-8"},
        cwd=folder,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


WORDS = [
    "--reduce=statistics",
    "--reduce=histogram:bins=50,low=0",
    "--reduce=quantiles:0.05,0.5,0.95",
    "--reduce=topk:k=10",
    "--reduce=dead",
    "--reduce=norm:axes=-1,order=inf",
    "--reduce=mean:0,1",
    "--reduce=covariance",
    "--reduce=correlation",
]


def test_a_table_for_each_reduction(server: ServerProcess, tmp_path: Path) -> None:
    printed = run(server, tmp_path, "activations/1", *WORDS)
    for word in WORDS:
        assert f"{word.removeprefix('--reduce=')}:\n" in printed
    assert "▁" in printed or "█" in printed
    assert "strongest pair" in printed
    assert "the first: " in printed


def test_json_is_complete(server: ServerProcess, tmp_path: Path, client: fluoroscope.Client) -> None:
    (site,) = json.loads(run(server, tmp_path, "activations/1", "--json", *WORDS))["sites"]
    assert (site["site"], site["dtype"], site["shape"]) == ("activations/1", "float32", [3, 16])
    assert site["statistics"]["count"] == 48
    names = [each["reduction"]["name"] for each in site["reductions"]]
    assert sorted(names) == sorted(
        ["histogram", "quantiles", "top_k", "dead_units", "norm", "mean", "covariance", "correlation"]
    )
    results = {each["reduction"]["name"]: each for each in site["reductions"]}
    array = client.inspect("relu", {"x": batch(3)}, sites="activations/1")["activations/1"][Full()]
    assert results["histogram"]["reduction"] == {"name": "histogram", "bins": 50, "low": 0.0, "high": None}
    assert sum(results["histogram"]["result"]["counts"]) == array.size
    assert results["norm"]["reduction"] == {"name": "norm", "axes": [-1], "order": "Infinity"}
    np.testing.assert_allclose(results["norm"]["result"]["data"], np.abs(array).max(-1), rtol=1e-6)
    np.testing.assert_array_equal(results["dead_units"]["result"]["zero_counts"], (array == 0).sum(0))
    assert results["top_k"]["result"]["indices"]["shape"] == [3, 10]


def test_tensors_in_a_file(server: ServerProcess, tmp_path: Path, client: fluoroscope.Client) -> None:
    reduce = ["--reduce=full", "--reduce=topk:2", "--reduce=topk:k=3", "--reduce=dead", "--reduce=statistics"]
    run(server, tmp_path, "activations/1", *reduce, "--dtype", "int8", "--output", "acts.npz")
    array = client.inspect("relu", {"x": batch(3)}, sites="activations/1")["activations/1"][Full()]
    with np.load(tmp_path / "acts.npz") as stored:
        site = "activations/1"
        tops = {f"{site}@topk:{which}/{part}" for which in ("2", "k=3") for part in ("values", "indices")}
        assert set(stored.files) == {site, f"{site}@scale", f"{site}@dead", *tops}
        assert stored[site].dtype == np.int8
        np.testing.assert_allclose(stored[site] * stored[f"{site}@scale"], array, atol=array.max() / 250)
        np.testing.assert_array_equal(stored[f"{site}@topk:2/indices"][:, 0], array.argmax(-1))
        np.testing.assert_array_equal(stored[f"{site}@dead"], (array == 0).sum(0))
