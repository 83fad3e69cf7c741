"""Sealed checkpoints, from the command that seals them to the client that sees which weights answered."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import fluoroscope

from .saved import batch
from .server_process import ServerProcess

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Saved


def seal(path: Path) -> str:
    """Seals a step; returns its digest."""
    done = subprocess.run(
        [sys.executable, "-m", "fluoroscope_server", "seal", str(path)], capture_output=True, text=True, check=True
    )
    return done.stdout.split()[-1]


def test_what_was_sealed_is_served_and_nothing_else(checkpoints: Saved, tmp_path: Path) -> None:
    run = shutil.copytree(checkpoints.folders["relu"], tmp_path / "run")
    with ServerProcess({"relu": run}, "--require-seal") as server:
        assert server.wait() == 1
    assert f"model 'relu': checkpoint '{run}', step 7 is not sealed" in server.said

    digest = seal(run)
    with ServerProcess({"relu": run}, "--require-seal") as server:
        server.hears(rf"loaded relu: version 7 \(sealed, {digest[:12]}\), ")
        with fluoroscope.Client(server.until_ready().target) as client:
            model = client.model("relu")
            assert (model.sealed, model.digest) == (True, digest)
            assert client.inspect("relu", {"x": batch(1)}, sites="relu:0").digest == digest
        assert server.stop() == 0
