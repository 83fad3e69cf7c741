"""`fluoroscope inspect --dataset` and `Survey` on a real server, against NumPy in float64 over the whole data set."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import fluoroscope
from fluoroscope import Correlation, Covariance, Full, Histogram, Mean, Norm, Quantiles, Statistics, Survey

from .conftest import HIDDEN
from .saved import batch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Saved
    from .server_process import ServerProcess

ROWS, FEW = 253, 61
NETWORKS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"relu": lambda x: np.maximum(x, 0), "tanh": np.tanh}


class Shell:
    """Runs `fluoroscope inspect` against one server, in one folder with a data set."""

    def __init__(self, server: ServerProcess, folder: Path) -> None:
        self.folder = folder
        self._environment = {**os.environ, "FLUOROSCOPE_SERVER": server.target, "PYTHONIOENCODING": "utf-8"}

    def run(self, *words: str, code: int = 0) -> tuple[str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "fluoroscope", "inspect", *words],
            capture_output=True,
            env=self._environment,
            cwd=self.folder,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, done.stderr.decode()
        assert b"Traceback" not in done.stderr
        return done.stdout.decode(), done.stderr.decode()

    def sites(self, *words: str, rows: int = ROWS) -> dict[str, Any]:
        answer = json.loads(self.run(*words, "--json")[0])
        assert answer["rows"] == rows
        return {site["site"]: site for site in answer["sites"]}


@pytest.fixture(scope="module")
def data() -> np.ndarray:
    return batch(ROWS, seed=3)


@pytest.fixture(scope="module")
def shell(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory, data: np.ndarray) -> Shell:
    folder = tmp_path_factory.mktemp("data set")
    np.savez(folder / "data.npz", x=data)
    np.savez(folder / "few.npz", x=data[:FEW])
    return Shell(server, folder)


SITES = [f"activations/{index}" for index in range(2 * len(HIDDEN) + 1)]
"""What comes before and after each activation function, and the logits."""


@pytest.fixture(scope="module")
def layers(checkpoints: Saved, client: fluoroscope.Client, data: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """Every layer of each network over the whole data set, as float64 of the network's float32 numbers.

    They are those that the server brings whole, which NumPy's own computation confirms: to the last bit it may round
    otherwise.
    """
    found = {}
    for name, act_fn in NETWORKS.items():
        parts = [client.inspect(name, {"x": part}, sites=SITES) for part in np.array_split(data, 32)]
        found[name] = {
            site: np.concatenate([part[site][Full()] for part in parts]).astype(np.float64) for site in SITES
        }
        for site, value in zip(SITES, by_hand(checkpoints.base[name]["params"], data, act_fn), strict=True):
            np.testing.assert_allclose(found[name][site], value, atol=1e-5)
    return found


def by_hand(params: Any, data: np.ndarray, act_fn: Callable[[np.ndarray], np.ndarray]) -> list[np.ndarray]:
    """Returns all activations of the seed's network, computed by NumPy in float64."""
    value, activations = data.astype(np.float64), []
    for layer in range(len(HIDDEN) + 1):
        kernel, bias = (np.asarray(params[f"Dense_{layer}"][name], np.float64) for name in ("kernel", "bias"))
        activations.append(value @ kernel + bias)
        value = act_fn(activations[-1])
        activations.append(value)
    return activations[:-1]


def counts_are_right(result: Any, value: np.ndarray, bins: int) -> None:
    """Asserts that a histogram counts a value; what is within float32's rounding of an edge may be on either side."""
    assert len(result["counts"]) == bins
    assert (result["low"], result["high"]) == (value.min(), value.max())
    assert (result["below_count"], result["above_count"], result["nan_count"]) == (0, 0, 0)
    assert sum(result["counts"]) == value.size
    edges = np.linspace(result["low"], result["high"], bins + 1)[1:-1]
    room = 1e-6 * (result["high"] - result["low"])
    cumulative = np.cumsum(result["counts"])[:-1]
    assert ((value < edges[:, None, None] - room).sum((1, 2)) <= cumulative).all()
    assert (cumulative <= (value < edges[:, None, None] + room).sum((1, 2))).all()
    numpys, _ = np.histogram(value, bins)
    assert np.abs(result["counts"] - numpys).sum() <= 4


# --- the three plots of the lesson, one command each


@pytest.mark.parametrize("name", NETWORKS)
def test_distribution_of_activations(shell: Shell, layers: dict[str, dict[str, np.ndarray]], name: str) -> None:
    sites = shell.sites(name, "--dataset", "data.npz", "activations/*", "--reduce", "histogram:bins=50")
    assert list(sites) == SITES
    for path, value in layers[name].items():
        ((result,),) = [[each["result"] for each in sites[path]["reductions"]]]
        counts_are_right(result, value, 50)


@pytest.mark.parametrize("name", NETWORKS)
def test_variance_of_each_layer(shell: Shell, layers: dict[str, dict[str, np.ndarray]], name: str) -> None:
    sites = shell.sites(name, "--dataset", "data.npz", "activations/*", "--reduce", "statistics")
    for path, value in layers[name].items():
        statistics = sites[path]["statistics"]
        assert sites[path]["shape"] == list(value.shape)
        assert (statistics["count"], statistics["zero_count"]) == (value.size, (value == 0).sum())
        assert (statistics["min"], statistics["max"]) == (value.min(), value.max())
        assert statistics["var"] == pytest.approx(value.var(), rel=1e-5)
        assert statistics["mean"] == pytest.approx(value.mean(), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_dead_neurons(shell: Shell, layers: dict[str, dict[str, np.ndarray]], name: str) -> None:
    sites = shell.sites(name, "--dataset", "data.npz", "activations/*", "--reduce", "dead", "--batch-size", "7")
    for path, value in layers[name].items():
        (dead,) = sites[path]["reductions"]
        assert dead["result"]["zero_counts"] == (value == 0).sum(0).tolist()
        assert dead["result"]["indices"] == np.flatnonzero((value == 0).all(0)).tolist()
        assert dead["result"]["sample_count"] == ROWS


# --- everything else


@pytest.mark.parametrize(("size", "name", "rows"), [("1", "few.npz", FEW), ("8", "data.npz", ROWS)])
def test_quantiles_are_those_of_one_big_batch(
    shell: Shell, layers: dict[str, dict[str, np.ndarray]], size: str, name: str, rows: int
) -> None:
    asked = (0.0, 0.05, 0.5, 0.777, 0.95, 1.0)
    word = "quantiles:" + ",".join(map(str, asked))
    question = ("relu", "--dataset", name, "activations/1", "activations/3", "--reduce", word)
    sites = shell.sites(*question, "--batch-size", size, rows=rows)
    for path in sites:
        value = layers["relu"][path][:rows]
        (found,) = sites[path]["reductions"]
        assert found["result"]["finite_count"] == value.size
        np.testing.assert_allclose(found["result"]["values"], np.quantile(value, asked), rtol=1e-6, atol=1e-7)


def test_from_python_and_several_at_once(
    client: fluoroscope.Client, data: np.ndarray, layers: dict[str, dict[str, np.ndarray]]
) -> None:
    value = layers["relu"]["activations/1"]
    reduce = [Statistics(), Quantiles(0.25), Histogram(low=0), Covariance(), Correlation(), Mean(axes=0), Norm()]
    survey = Survey(client.sites("relu", "activations/0", "activations/1"), reduce=reduce)
    for question in survey.passes():
        for part in np.array_split(data, 40):
            survey.add(client.inspect("relu", {"x": part}, **question))
    found = survey["activations/1"]
    assert list(found.results) == reduce
    assert found.quantiles[0.25] == np.quantile(value, 0.25)
    np.testing.assert_allclose(found[Covariance()].matrix, np.cov(value.T, bias=True), atol=1e-5)
    np.testing.assert_allclose(found[Mean(axes=0)], value.mean(0), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found[Norm()], np.linalg.norm(value), rtol=1e-6)
    with np.errstate(invalid="ignore", divide="ignore"):
        want = np.corrcoef(value.T)
    np.testing.assert_allclose(found[Correlation()].matrix, want, atol=1e-4)


def test_an_asynchronous_client_does_the_same(
    server: ServerProcess, data: np.ndarray, layers: dict[str, dict[str, np.ndarray]]
) -> None:
    async def surveyed() -> Survey:
        async with fluoroscope.AsyncClient(server.target) as client:
            survey = Survey(await client.sites("tanh", "activations/0"), reduce=Quantiles(0.1, 0.9))
            for question in survey.passes():
                for part in np.array_split(data, 32):
                    survey.add(await client.inspect("tanh", {"x": part}, **question))
            return survey

    found = asyncio.run(surveyed())["activations/0"].quantiles
    assert found is not None
    np.testing.assert_allclose(found.values, np.quantile(layers["tanh"]["activations/0"], [0.1, 0.9]), rtol=1e-12)


def test_a_table_and_a_file(shell: Shell, layers: dict[str, dict[str, np.ndarray]]) -> None:
    value = layers["relu"]["activations/1"]
    printed, said = shell.run(
        *("relu", "--dataset", "data.npz", "activations/1", "--reduce=dead", "--reduce=histogram:bins=5"),
        *("--reduce=mean:0", "--output", "out.npz"),
    )
    assert f"{ROWS} x {HIDDEN[0]}" in printed
    assert "histogram:bins=5:\n" in printed
    assert "out.npz: 2 arrays written" in said
    with np.load(shell.folder / "out.npz") as stored:
        np.testing.assert_array_equal(stored["activations/1@dead"], (value == 0).sum(0))
        np.testing.assert_allclose(stored["activations/1@mean:0"], value.mean(0), rtol=1e-5, atol=1e-7)


def test_values_of_every_example(shell: Shell, layers: dict[str, dict[str, np.ndarray]]) -> None:
    """Whole, reduced for each example, and of some examples only, chosen by where they are in the data set."""
    value = layers["relu"]["activations/2"]
    words = ("relu", "--dataset", "data.npz", "activations/2", "--slice=1::3")
    reduce = ("--reduce=full", "--reduce=topk:2", "--reduce=mean:-1", "--reduce=statistics")
    printed, _ = shell.run(*words, *reduce, "--slice=0:-200:-50:7", "--output", "some.npz")
    some = value[-200:-50:7, :3]
    assert f"{len(some)} x 3" in printed
    with np.load(shell.folder / "some.npz") as stored:
        np.testing.assert_array_equal(stored["activations/2"], some)
        np.testing.assert_array_equal(stored["activations/2@topk:2/values"], -np.sort(-some)[:, :2])
        np.testing.assert_array_equal(stored["activations/2@topk:2/indices"], np.argsort(-some)[:, :2])
        np.testing.assert_allclose(stored["activations/2@mean:-1"], some.mean(-1), rtol=1e-5, atol=1e-7)
    _, said = shell.run(*words, "--max-bytes", "3000", "--reduce=full", code=1)
    assert "the values of 253 examples have 3,036 bytes, and to hold them the limit is 3,000" in said


@pytest.mark.parametrize("file", ["compressed.npz:other", "array.npy", "wide.npz"])
def test_other_files(shell: Shell, data: np.ndarray, file: str) -> None:
    np.savez_compressed(shell.folder / "compressed.npz", other=data, labels=np.arange(ROWS))
    np.save(shell.folder / "array.npy", data)
    np.savez(shell.folder / "wide.npz", x=data.astype(np.float64))
    cast = ("--cast",) if file == "wide.npz" else ()
    words = ("relu", "activations/0", "--dataset")
    assert shell.sites(*words, file, *cast) == shell.sites(*words, "data.npz")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("relu", "--dataset", "more.npz"), "no input 'labels'. The model relu wants x: float32[batch, 6]."),
        (("relu", "--dataset", "more.npz:y"), "more.npz has no 'y'; it has x, labels."),
        (("relu", "--dataset", "labels.npz"), "no input 'labels', 'x' is missing."),
        (("relu", "--dataset", "empty.npz"), "empty.npz holds no example"),
        (("relu", "--dataset", "none.npz"), "none.npz cannot be read: No such file or directory"),
        (("relu", "--dataset", ""), "no file is named"),
        (("relu", "--dataset", "text.npz"), "text.npz is no data set: it is neither NumPy's .npz nor .npy"),
        (("relu", "--dataset", "torn.npy"), "torn.npy cannot be read as NumPy's"),
        (("relu", "--dataset", "labels.npz:labels"), "array for x is int64, 3; the model wants x: float32[batch, 6]"),
        (("function", "--dataset", "uneven.npz"), "have not the same number of examples: tokens 3, mask 2."),
        (("function", "--dataset", "labels.npy"), "is one array, and function has tokens, mask"),
        (
            ("relu", "--dataset", "data.npz", "--slice", "0:0:254"),
            "the 253 examples of the data set, and 0 to 254 by 1",
        ),
        (("relu", "--dataset", "data.npz", "--batch-size", "9"), "the model relu takes at most 8 examples at once"),
        (("relu", "--dataset", "data.npz", "x=[[1]]"), "--dataset gives all inputs, and brings sites only"),
        (("relu", "--dataset", "data.npz", "--with-output", "logits"), "leave out --with-output"),
        (("relu", "--dataset", "data.npz", "--output", "o.npz"), "a data set comes as statistics unless --reduce says"),
        (("relu", "x=[[1]]", "--batch-size", "9"), "--batch-size is for --dataset"),
    ],
)
def test_what_is_wrong_is_said(shell: Shell, words: tuple[str, ...], message: str) -> None:
    np.savez(shell.folder / "more.npz", x=np.zeros((3, 6), np.float32), labels=np.zeros(3))
    np.savez(shell.folder / "labels.npz", labels=np.zeros(3, np.int64))
    np.save(shell.folder / "labels.npy", np.zeros(3))
    np.savez(shell.folder / "empty.npz", x=np.zeros((0, 6), np.float32))
    np.savez(shell.folder / "uneven.npz", tokens=np.zeros((3, 3), np.float32), mask=np.zeros(2, bool))
    (shell.folder / "text.npz").write_text("no array")
    (shell.folder / "torn.npy").write_bytes(b"\x93NUMPY\x01\x00\x0b\x00{'descr': (")
    assert message in shell.run(*words, code=2)[1]


def test_what_the_server_refuses(shell: Shell) -> None:
    assert "'Dens_0'" in shell.run("relu", "--dataset", "data.npz", "Dens_0", code=1)[1]
