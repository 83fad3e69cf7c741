"""Threads that load and inspect networks of all kinds at once: no site is lost, no answer is wrong.

FLUOROSCOPE_SOAK_SECONDS says how long; 5 when it is not set.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fluoroscope_server.engine import Capture, SiteKind, paired, read
from fluoroscope_server.serving import load
from fluoroscope_server.settings import ModelSource

from ...builtin_families import EXAMPLES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fluoroscope_server.engine import Engine
    from fluoroscope_server.serving import DeviceQueue

SECONDS = float(os.environ.get("FLUOROSCOPE_SOAK_SECONDS", "5"))
THREADS = 8
ROWS = 2


class Seen:
    """What a network shows: its sites, and the value of every module."""

    def __init__(self, engine: Engine, x: np.ndarray) -> None:
        self.sites = [(site.path, site.kind, site.shape, site.dtype, site.reason) for site in engine.sites]
        question = Capture(sites=("**",), kinds=(SiteKind.MODULE,))
        inspection = engine.inspect([question], (), rows=len(x))
        stages = engine.run(engine.program(inspection.plan).result(120), [x], inspection)
        arrays = itertools.chain.from_iterable(stages)
        self.values = {spec.name: np.asarray(read(spec, each)) for spec, each in paired(inspection.results, arrays)}

    def same_as(self, other: Seen) -> None:
        assert self.sites == other.sites
        assert list(self.values) == list(other.values)
        for path, value in self.values.items():
            np.testing.assert_allclose(value, other.values[path], rtol=1e-5, atol=1e-6, err_msg=path)


@pytest.mark.timeout(SECONDS + 180)
def test_threads_that_load_and_inspect(
    tmp_path: Path, device: DeviceQueue, record_property: Callable[[str, object], None]
) -> None:
    sources = {
        name: ModelSource(name=name, path=example.save(tmp_path / name, example.variables(), buckets=[ROWS]))
        for name, example in EXAMPLES.items()
    }

    def look(name: str) -> Seen:
        servable = load(sources[name], device, capacity=4, on_compile=lambda _: None)
        try:
            return Seen(servable.engine, EXAMPLES[name].inputs(ROWS))
        finally:
            servable.engine.close()

    alone = {name: look(name) for name in EXAMPLES}
    assert all(len(seen.values) > 2 for seen in alone.values())
    together = threading.Barrier(THREADS)
    end = time.monotonic() + SECONDS

    def work(number: int) -> int:
        names = itertools.islice(itertools.cycle(EXAMPLES), number % len(EXAMPLES), None)
        together.wait(60)
        for count, name in enumerate(names, 1):
            look(name).same_as(alone[name])
            if time.monotonic() > end:
                return count
        raise AssertionError("the names never end")

    with ThreadPoolExecutor(THREADS) as pool:
        counts: list[Any] = list(pool.map(work, range(THREADS)))
    record_property("networks", sum(counts))
    assert min(counts) >= 1
