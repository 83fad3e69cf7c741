"""Captures beside a plain forward, in one process: what looking costs without any transport."""

from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax
import numpy as np

import networks
from fluoroscope_server.engine import Capture, Engine, Full, SiteKind, Statistics
from fluoroscope_server.families import build_network
from fluoroscope_server.model_config import ModelConfig

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One kind of capture."""

    what: str
    """What was captured."""

    seconds: float
    """How long it took, the median."""

    forward_seconds: float
    """How long the plain forward took beside it, the median."""

    target: str
    """What the ratio must be."""


def machine() -> str:
    """Returns the device and the cores that were measured."""
    return f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores, JAX {jax.__version__}"


def measure(*, rounds: int) -> list[Measured]:
    """Runs a plain forward and each kind of capture in turn."""
    module, variables = networks.digits()
    image = np.random.default_rng(0).random((BATCH, *networks.IMAGE), np.float32)
    forward = jax.jit(module.apply)
    runs: dict[str, Callable[[], object]] = {"forward": lambda: forward(variables, image)}
    engine = _engine(variables)
    modules = (SiteKind.MODULE,)
    asked = {
        "every module, full": Capture(sites=("**",), kinds=modules, reductions=(Full(),)),
        "every module, statistics": Capture(sites=("**",), kinds=modules, reductions=(Statistics(),)),
        "the first module, full": Capture(sites=("Dense_0",)),
    }
    for what, capture in asked.items():
        inspection = engine.inspect([capture], [], rows=BATCH)
        program = engine.program(inspection.plan).result()
        runs[what] = lambda program=program, inspection=inspection: list(engine.run(program, [image], inspection))  # type: ignore[misc]  # mypy does not infer the defaults of a lambda
    medians = _medians(runs, rounds)
    targets = {"every module, statistics": "at most 1.30", "the first module, full": "its share of the FLOPs, 0.66"}
    return [
        Measured(
            what=what, seconds=medians[what], forward_seconds=medians["forward"], target=targets.get(what, "stated")
        )
        for what in asked
    ]


def _engine(variables: object) -> Engine:
    config = ModelConfig.parse(
        {
            "family": "base_network",
            "config": networks.DIGITS,
            "inputs": {"image": {"dtype": "float32", "shape": list(networks.IMAGE)}},
            "outputs": ["logits"],
        }
    )
    return Engine(build_network(config, {}), jax.device_put(variables), buckets=[BATCH])


def _medians(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in runs}
    shuffle = random.Random(0).shuffle
    for _ in range(20 * rounds):
        order = list(runs)
        shuffle(order)  # what ran before decides what the caches hold: let it be anything
        for name in order:
            run = runs[name]
            start = time.perf_counter()
            jax.block_until_ready(run())
            times[name].append(time.perf_counter() - start)
    return {name: float(np.median(each)) for name, each in times.items()}
