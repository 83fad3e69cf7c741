"""Predictions among long inspections: they are answered between the stages, and the inspections come to their end."""

from __future__ import annotations

import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import fluoroscope

from ..builtin_families import Example
from .server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DEPTH, ROWS, TOKENS = 8, 512, 16
STREAMS = 6
"""More than the device has threads for inspections."""


def test_predictions_are_answered_between_the_stages_of_inspections(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    config = {"width": 64, "heads": 2, "mlp_ratio": 4, "depth": DEPTH, "vocab_size": 11}
    example = Example(family="transformer", config=config, shape=(TOKENS,), vocabulary=11)
    folder = example.save(tmp_path / "deep", example.variables(), buckets=[1, ROWS])
    many, one = {"x": example.inputs(ROWS)}, {"x": example.inputs(1)}
    sites = [f"layers[{layer}]" for layer in range(DEPTH)]

    def inspect(target: str) -> list[float]:
        """Returns when each result came."""
        with fluoroscope.Client(target, timeout=120) as client:
            stream = client.stream("deep", many, sites=sites, reduce=fluoroscope.Statistics(), execution="staged")
            return [time.monotonic() for _ in stream]

    def predict(target: str, until: threading.Event) -> list[tuple[float, float]]:
        """Returns when each prediction was asked for and answered."""
        times = []
        with fluoroscope.Client(target, timeout=120) as client:
            while not until.is_set():
                start = time.monotonic()
                client.predict("deep", one)
                times.append((start, time.monotonic()))
        return times

    with ServerProcess({"deep": folder}) as server, ThreadPoolExecutor(STREAMS + 1) as pool:
        target = server.until_ready().target
        inspect(target)  # compiles
        ended = threading.Event()
        predicting = pool.submit(predict, target, ended)
        arrivals = [future.result(120) for future in [pool.submit(inspect, target) for _ in range(STREAMS)]]
        ended.set()
        predictions = predicting.result(120)

    for came in arrivals:
        assert len(came) == DEPTH
        between = [end for _, end in predictions if came[0] < end < came[-1]]
        assert len(between) >= DEPTH, "each stream let more predictions pass than it has stages"
    whole = statistics.median(came[-1] - came[0] for came in arrivals)
    waited = statistics.median(end - start for start, end in predictions)
    record_property("predictions", len(predictions))
    record_property("prediction_seconds", waited)
    record_property("inspection_seconds", whole)
    assert waited < whole / DEPTH
