"""The names of sites: those of a network are the same in each server that loads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import fluoroscope

from .server_process import ServerProcess

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Saved

MODELS = ("relu", "convolutions", "perceptron", "function", "transformer")


def names(folders: dict[str, Path], seed: str) -> dict[str, list[tuple[str, str]]]:
    """Starts a server, in which Python hashes otherwise for each seed, and returns every site it lists."""
    with ServerProcess(folders, environment={"PYTHONHASHSEED": seed}) as server:
        with fluoroscope.Client(server.until_ready().target) as client:
            found = {name: [(each.path, str(each.kind)) for each in client.sites(name, "**")] for name in folders}
        assert server.stop() == 0, server.said
    return found


def test_a_restart_changes_no_name(checkpoints: Saved) -> None:
    folders = {name: checkpoints.folders[name] for name in MODELS}
    first = names(folders, "1")
    assert any(kind.endswith("EQUATION") for sites in first.values() for _, kind in sites)
    assert names(folders, "2") == first
