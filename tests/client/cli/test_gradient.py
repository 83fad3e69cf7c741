"""Gradients as words of the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from fluoroscope.wire import decode_tensor

if TYPE_CHECKING:
    from pathlib import Path

    from tests.client.cli.conftest import Run
    from tests.client.fake_server import FakeServer

X = "image=[[[1],[-2]],[[3],[0.5]]]"


def test_a_gradient(run: Run, server: FakeServer) -> None:
    wrt = ["--wrt", "inputs/image", "--wrt", "params/**"]
    result = run("inspect", "digits", X, "Dense_0", "--gradient", "logits=4", *wrt)

    assert result.exit_code == 0, result.stderr
    request = server.requests[-1]
    assert (request.gradient.output, decode_tensor(request.gradient.logit).item()) == ("logits", 4)
    assert (request.gradient.inputs, request.gradient.parameters) == (["image"], ["params/**"])
    assert len(request.captures) == 1
    run("plan", "digits", "--gradient", "logits=4", *wrt)
    assert not server.requests[-1].inspection.captures


def test_a_loss_in_a_plan(run: Run, server: FakeServer, tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", np.array([7, 8]))
    for words, labels in {"logits=3,1": [3, 1], f"logits=@{tmp_path}/labels.npy": [7, 8]}.items():
        result = run("plan", "digits", "--loss", words)

        assert result.exit_code == 0, result.stderr
        inspection = server.requests[-1].inspection
        assert decode_tensor(inspection.gradient.cross_entropy).tolist() == labels
        assert inspection.captures


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--gradient", "logits"], "expected OUTPUT=INDEX, such as logits=4"),
        (["--gradient", "logits=a"], "neither .npy, .npz, an image, nor JSON"),
        (["--gradient", "logits=1.5"], "1.5 is float64; expected whole numbers"),
        (["--gradient", "logits=1", "--loss", "logits=1"], "are two scalars; ask for one of them"),
        (["--wrt", "params/**"], "say of what with --gradient or --loss"),
    ],
)
def test_wrong_words(run: Run, words: list[str], message: str) -> None:
    result = run("inspect", "digits", X, *words)

    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
