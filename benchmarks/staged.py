"""A staged inspection through a real server, of every block of a network that computes for long.

The client is ours, as a user has it; each figure is the time from the call to what it tells of.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np

import fluoroscope
import load
import networks
import servers
from fluoroscope.v1 import inspection_pb2 as inspection
from fluoroscope.wire import encode_tensor
from row import Row, Samples

if TYPE_CHECKING:
    from collections.abc import Callable

    from fluoroscope.calls import Execution

RUNS = 7
"""How often each thing is asked for in a round."""

INSPECT = "/fluoroscope.v1.InspectionService/InspectActivations"
MOST_KB = 100
"""How many thousand bytes the statistics of every module may be."""


def measure(model: str, *, rounds: int) -> list[Row]:
    """Asks for a prediction, and for every block, staged and fused, in turn."""
    x = np.random.default_rng(0).random((networks.BLOCK_ROWS, networks.BLOCK_FEATURES), np.float32)
    with servers.fluoroscope(model) as address, fluoroscope.Client(address, timeout=120) as client:
        asked: dict[str, Callable[[], dict[str, float]]] = {
            "forward": lambda: _predict(client, x),
            "staged": lambda: _stream(client, x, "staged"),
            "fused": lambda: _stream(client, x, "fused"),
        }
        for ask in asked.values():  # compiles
            ask()
        seconds = Samples()
        for _ in range(RUNS * rounds):
            for name, ask in asked.items():
                for what, value in ask().items():
                    seconds.add(f"{name} {what}", value)
        size = _statistics_bytes(address, x)
    compared = [
        ("first tensor of every block, staged, beside a prediction", "staged first", "forward all", "at most 0.10"),
        ("every block, staged, beside fused", "staged all", "fused all", "at most 1.25"),
        ("first tensor of every block, fused, beside a prediction", "fused first", "forward all", "stated"),
    ]
    return [
        *(_row(what, seconds, ours, theirs, target) for what, ours, theirs, target in compared),
        Row(
            what="statistics of every module: the size of the answer",
            ours=f"{size / 1e3:.0f} KB",
            theirs=f"{MOST_KB} KB (the most)",
            ratio=size / 1e3 / MOST_KB,
            target="at most 1.00",
        ),
    ]


def _predict(client: fluoroscope.Client, x: np.ndarray) -> dict[str, float]:
    start = time.perf_counter()
    client.predict("blocks", {"x": x})
    return {"all": time.perf_counter() - start}


def _stream(client: fluoroscope.Client, x: np.ndarray, execution: Execution) -> dict[str, float]:
    start = time.perf_counter()
    stream = client.stream("blocks", {"x": x}, sites="layers_*", kinds="MODULE", execution=execution)
    next(stream)
    first = time.perf_counter() - start
    for _ in stream:
        pass
    return {"first": first, "all": time.perf_counter() - start}


def _statistics_bytes(address: str, x: np.ndarray) -> int:
    """Returns how many bytes the messages are that answer for the statistics of every module."""
    capture = inspection.Capture(
        sites=["**"],
        kinds=[inspection.SITE_KIND_MODULE],
        reductions=[inspection.Reduction(statistics=inspection.Reduction.Describe())],
    )
    request = inspection.InspectActivationsRequest(model="blocks", inputs={"x": encode_tensor(x)}, captures=[capture])
    with grpc.insecure_channel(address, options=load.OPTIONS) as channel:
        stream: Any = channel.unary_stream(INSPECT)
        return sum(len(message) for message in stream(request.SerializeToString()))


def _row(what: str, seconds: Samples, ours: str, theirs: str, target: str) -> Row:
    mine, reference = seconds.median(ours), seconds.median(theirs)
    return Row(
        what=f"{networks.BLOCKS} blocks: {what}",
        ours=f"{1e3 * mine:.0f} ms",
        theirs=f"{1e3 * reference:.0f} ms",
        ratio=mine / reference,
        target=target,
    )
