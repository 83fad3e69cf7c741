"""A restart finds what the last start compiled: models, presets and inspections."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

import fluoroscope

from .saved import FEATURES, base_config, base_network, batch, randomized, save_series
from .server_process import ServerProcess

if TYPE_CHECKING:
    from pathlib import Path

PRESETS = {"health": {"sites": ["**"], "kinds": ["module"], "reduce": ["statistics"]}}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network whose config names a preset."""
    network = base_network("relu", (16, 12), 5)
    config = base_config("relu", (16, 12), 5, (2, 8)) | {"presets": PRESETS}
    return save_series(tmp_path_factory.mktemp("preset") / "model", randomized(network, batch(1, FEATURES)), config)


def serve_and_inspect(model: Path, *options: str) -> tuple[float, float, float]:
    """Starts a server, looks inside, and stops it; returns the programs found, those compiled anew, and all of them."""
    with ServerProcess({"net": model}, *options) as server:
        with fluoroscope.Client(server.until_ready().target) as client:
            health = client.inspect(
                "net", {"x": batch(5)}, sites="**", kinds=["module"], reduce=fluoroscope.Statistics()
            )
            assert not health.program.compiled, "it is a preset"
            for sites in ("activations/*", "Dense_1"):
                assert client.inspect("net", {"x": batch(5)}, sites=sites).program.compiled
                assert not client.inspect("net", {"x": batch(5)}, sites=sites).program.compiled
        metrics = server.metrics()
        assert server.stop() == 0, server.said
    assert "warning" not in server.said.lower(), server.said
    name = "fluoroscope_compile_cache_total"
    return (
        metrics.total(name, result="hit"),
        metrics.total(name, result="miss"),
        metrics.total("fluoroscope_compile_seconds_count"),
    )


def test_a_restart_compiles_nothing_that_the_folder_holds(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "programs"
    option = f"--compile-cache={folder}"
    hits, misses, programs = serve_and_inspect(model, option)
    assert programs == 2 + 2 + 2  # for each bucket, the preset for each bucket, two inspections
    assert misses >= programs  # JAX compiles a little for itself
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert serve_and_inspect(model, option) == (hits + misses, 0, programs)


def test_a_killed_server_harms_no_restart(model: Path, tmp_path: Path) -> None:
    option = f"--compile-cache={tmp_path}"
    serve_and_inspect(model, option)
    torn = max(tmp_path.rglob("*-cache"), key=lambda path: path.stat().st_mtime_ns)
    torn.write_bytes(torn.read_bytes()[:-7])
    assert serve_and_inspect(model, option)[1] == 1
    assert serve_and_inspect(model, option)[1] == 0


def test_nothing_is_kept_if_the_operator_says_so(model: Path) -> None:
    assert serve_and_inspect(model, "--compile-cache=off")[:2] == (0, 0)
