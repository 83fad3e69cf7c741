"""More activations than memory: they stream through, and what the server needs does not grow with the layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import fluoroscope

from ..builtin_families import Example
from .networks.networks_of_tests import Tower
from .saved import batch, randomized, save_series
from .server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MIB = 1 << 20
ROWS, TOKENS, WIDTH = 4096, 16, 32
VALUE_BYTES = ROWS * TOKENS * WIDTH * 4
"""What a layer gives: 8 MiB."""

SHALLOW, DEEP = 6, 24
MOST_GROWTH = 200 * MIB
"""What is free but kept, 64 MiB, the room that one stage takes, and the values that are on their way."""

PARTS = ("/attn", "/mlp", "")
SIZES = {"width": WIDTH, "heads": 1, "mlp_ratio": 1}


def unrolled(depth: int) -> tuple[Example, list[str]]:
    """A network whose layers are written out, and three values of each of them."""
    config = {**SIZES, "depth": depth, "patch_size": 1, "num_classes": 3, "pool": "mean"}
    example = Example(family="vit", config=config, shape=(4, 4, 1))
    return example, [f"layers_{layer}{part}" for layer in range(depth) for part in PARTS]


def scanned(depth: int) -> tuple[Example, list[str]]:
    """The same for a network whose layers run under `nn.scan`."""
    config = {**SIZES, "depth": depth, "vocab_size": 11}
    example = Example(family="transformer", config=config, shape=(TOKENS,), vocabulary=11)
    return example, [f"layers[{layer}]{part}" for layer in range(depth) for part in PARTS]


@pytest.mark.parametrize("kind", [unrolled, scanned])
def test_memory_does_not_grow_with_the_layers(
    kind: Callable[[int], tuple[Example, list[str]]], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    networks = {f"of_{depth}": kind(depth) for depth in (SHALLOW, DEEP)}
    folders = {
        name: example.save(tmp_path / name, example.variables(), buckets=[ROWS])
        for name, (example, _) in networks.items()
    }
    growth = {}
    with ServerProcess(folders) as server, fluoroscope.Client(server.until_ready().target, timeout=120) as client:
        for name, (_, sites) in networks.items():
            client.plan(name, ROWS, sites=sites, kinds="MODULE", compile=True)
        for name, (example, sites) in networks.items():
            rest = server.resident_bytes()
            server.forget_peak()
            stream = client.stream(name, {"x": example.inputs(ROWS)}, sites=sites, kinds="MODULE")
            sizes = [each.array.nbytes for each in stream]
            assert sizes == [VALUE_BYTES] * len(sites)
            growth[name] = server.peak_bytes() - rest
            record_property(f"growth_mib_{name}", growth[name] // MIB)

    most = max(growth.values())  # the first may need room that the second finds free, or that the compiles have left
    assert 0 <= most < MOST_GROWTH < 3 * DEEP * VALUE_BYTES / 2.5


def test_several_times_the_memory_of_the_whole_server(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    depth, rows, features = 96, 96, 1 << 16
    variables = randomized(Tower(depth=depth), np.zeros((1, features), np.float32))
    config = {
        "family": "networks_of_tests:tower",
        "config": {"depth": depth},
        "inputs": {"x": {"shape": [features]}},
        "buckets": [rows],
    }
    save_series(tmp_path / "tower", variables, config)
    x = expected = batch(rows, features)
    with ServerProcess({"tower": tmp_path / "tower"}, "--max-inspection-mib=4096") as server:
        server.until_ready()
        server.forget_peak()
        total = 0
        with fluoroscope.Client(server.target, timeout=120) as client:
            for layer, each in enumerate(client.stream("tower", {"x": x}, sites="Shift_*")):
                expected = expected + np.asarray(variables["params"][f"Shift_{layer}"]["by"])
                np.testing.assert_array_equal(each.array, expected, strict=True)
                total += each.array.nbytes
        peak = server.peak_bytes()

    record_property("peak_mib", peak // MIB)
    record_property("sent_mib", total // MIB)
    assert layer == depth - 1
    assert total == depth * x.nbytes > 3 * peak
