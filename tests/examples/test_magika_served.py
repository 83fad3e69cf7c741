from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING
from urllib.request import urlopen

import numpy as np
import pytest

import fluoroscope
from convert import convert
from features import tokens_of_file
from identify import BATCH

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt
    from magika import Magika

    from .conftest import Exact, Onnxruntime

    Tokens = npt.NDArray[np.int32]

TOLERANCE = 1e-5


class Server:
    """A server in a process of its own, that serves the converted network as the README says."""

    def __init__(self, checkpoint: Path, *, families: Path) -> None:
        listen = ["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fluoroscope_server", "serve", "--model", f"magika={checkpoint}", *listen],
            env={**os.environ, "PYTHONPATH": str(families)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said = self._until_ready()

    def _until_ready(self) -> str:
        said = ""
        assert self.process.stderr is not None
        for line in self.process.stderr:  # ends when the process does; the test's own timeout bounds it
            said += line
            if line.rstrip().endswith(": ready"):
                return said
        raise AssertionError(f"the server ended before it was ready, and said:\n{said}")

    def address(self, pattern: str) -> str:
        found = re.search(pattern, self.said)
        assert found, self.said
        return found[1]

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=60)
        return self.process.returncode


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, example: Path) -> Iterator[Server]:
    checkpoint = tmp_path_factory.mktemp("served") / "magika"
    convert(checkpoint)
    server = Server(checkpoint, families=example)
    yield server
    assert server.stop() == 0


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[fluoroscope.Client]:
    with fluoroscope.Client(server.address(r"gRPC on (\S+)")) as client:
        yield client


@pytest.fixture(scope="module")
def tokens(files: list[Path]) -> Tokens:
    return np.stack([tokens_of_file(path) for path in files])


def test_real_files_get_the_probabilities_that_the_weights_mean(
    client: fluoroscope.Client, tokens: Tokens, exact: Exact
) -> None:
    found = client.predict("magika", {"bytes": tokens})["probabilities"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, exact(tokens), rtol=0, atol=TOLERANCE)


def test_real_files_get_the_probabilities_that_onnxruntime_computes(
    client: fluoroscope.Client, tokens: Tokens, reference: Onnxruntime
) -> None:
    together = reference(tokens)
    alone = np.concatenate([reference(row[None]) for row in tokens])
    # Where onnxruntime agrees with itself: see test_magika_network.py.
    sure = np.abs(together - alone).max(axis=1) < TOLERANCE / 5
    assert sure.sum() >= len(tokens) // 2
    found = client.predict("magika", {"bytes": tokens})["probabilities"]
    np.testing.assert_allclose(found[sure], together[sure], rtol=0, atol=TOLERANCE)


def test_a_file_alone_gets_the_answer_that_it_gets_in_a_batch(client: fluoroscope.Client, tokens: Tokens) -> None:
    together = client.predict("magika", {"bytes": tokens})["probabilities"]
    for row, expected in list(zip(tokens, together, strict=True))[::6]:
        found = client.predict("magika", {"bytes": row[None]})["probabilities"]
        np.testing.assert_allclose(found, expected[None], rtol=0, atol=TOLERANCE)


def test_its_layers_are_sites(client: fluoroscope.Client) -> None:
    modules = {site.path: site.shape for site in client.sites("magika", "*", kinds=["MODULE"])}
    assert modules["byte_embedding"] == (-1, 2048, 64)
    assert modules["patch_norm"] == (-1, 512, 256)
    assert modules["conv"] == (-1, 508, 512)
    assert modules["pool_norm"] == (-1, 512)
    assert modules["logits"] == (-1, 214)


def test_what_is_inside_is_what_the_answer_is_made_of(client: fluoroscope.Client, tokens: Tokens) -> None:
    few = tokens[:3]
    inside = client.inspect("magika", {"bytes": few}, sites=["logits"])
    logits = inside["logits"].array
    assert logits is not None
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = client.predict("magika", {"bytes": few})["probabilities"]
    np.testing.assert_allclose(powers / powers.sum(axis=1, keepdims=True), expected, rtol=0, atol=TOLERANCE)


def test_identify_prints_the_labels_that_magika_gives(
    server: Server, example: Path, files: list[Path], magika: Magika
) -> None:
    assert len(files) > BATCH
    script = [sys.executable, str(example / "identify.py"), "--server", server.address(r"gRPC on (\S+)")]
    run = subprocess.run([*script, *map(str, files)], capture_output=True, text=True, check=True)
    found = [line.split(maxsplit=2) for line in run.stdout.splitlines()]
    assert [(label, path) for label, _, path in found] == [
        (str(magika.identify_path(path).prediction.dl.label), str(path)) for path in files
    ]


def test_metrics_count_what_was_asked(server: Server, client: fluoroscope.Client, tokens: Tokens) -> None:
    client.predict("magika", {"bytes": tokens[:1]})
    with urlopen(server.address(r"metrics on (\S+)")) as answer:  # on loopback
        metrics = answer.read().decode()
    assert re.search(r'^fluoroscope_model_info\{.*model="magika".*version="91".*\} 1\.0$', metrics, re.MULTILINE)
