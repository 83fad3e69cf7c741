"""Captures in a network of 24 blocks, in one process: what block k of n costs, and statistics of everything."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import jax
import numpy as np

import networks
from fluoroscope_server.engine import Capture, Engine, SiteKind, Statistics
from fluoroscope_server.families import build_network
from fluoroscope_server.model_config import ModelConfig
from row import Row, Samples

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCKS = (6, 12, 18, 24)
RUNS = 7
"""How often each thing is run in a round."""


def measure(*, rounds: int) -> list[Row]:
    """Runs a plain forward and each inspection in turn, for both forms of the network."""
    return [row for scanned in (False, True) for row in _measure(scanned=scanned, rounds=rounds)]


def _measure(*, scanned: bool, rounds: int) -> list[Row]:
    variables = jax.device_put(networks.blocks_variables(scanned=scanned))
    config = ModelConfig.parse(networks.blocks_config(scanned=scanned))
    engine = Engine(build_network(config, {}), variables, buckets=config.buckets)
    x = np.random.default_rng(0).random((networks.BLOCK_ROWS, networks.BLOCK_FEATURES), np.float32)
    form, site = ("scanned", "layers[{}]") if scanned else ("written out", "layers_{}")
    targets, asked = {}, {}
    for block in BLOCKS:
        what = f"in process, {form}: block {block} of {networks.BLOCKS}"
        share = block / networks.BLOCKS
        targets[what] = f"at most {1.1 * share:.2f}, its share and a tenth"
        asked[what] = Capture(sites=(site.format(block - 1),))
    what = f"in process, {form}: statistics of every module"
    targets[what] = "at most 1.30"
    asked[what] = Capture(sites=("**",), kinds=(SiteKind.MODULE,), reductions=(Statistics(),))
    runs: dict[str, Callable[[], object]] = {what: _inspection(engine, each, x) for what, each in asked.items()}
    seconds = Samples()
    for _ in range(RUNS * rounds):
        for name, run in {"forward": lambda: engine.predict(len(x), [x]), **runs}.items():
            start = time.perf_counter()
            jax.block_until_ready(run())
            seconds.add(name, time.perf_counter() - start)
    forward = seconds.median("forward")
    return [
        Row(
            what=what,
            ours=f"{1e3 * seconds.median(what):.0f} ms",
            theirs=f"{1e3 * forward:.0f} ms (plain forward)",
            ratio=seconds.median(what) / forward,
            target=targets[what],
        )
        for what in asked
    ]


def _inspection(engine: Engine, capture: Capture, x: np.ndarray) -> Callable[[], object]:
    inspection = engine.inspect([capture], [], rows=len(x))
    program = engine.program(inspection.plan).result()
    return lambda: list(engine.run(program, [x], inspection))
