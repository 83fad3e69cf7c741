"""Overload: three times as many predictions as the server can answer, from several processes that do not wait.

Two requests together take the network little longer than one. It computes for so long that the device is what is short,
not Python, whose work shares its cores here. As many may wait as make the next batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import numpy as np

import crowd
import load
import networks
import servers
from fluoroscope.v1.inference_pb2 import PredictRequest
from fluoroscope.wire import encode_tensor
from row import Row

if TYPE_CHECKING:
    from pathlib import Path

PREDICT = "/fluoroscope.v1.InferenceService/Predict"
ROWS = 32
"""How many rows a request has."""

BUCKETS = (ROWS, 2 * ROWS)
TOGETHER = BUCKETS[-1] // ROWS
"""How many requests go together."""

TIMES = 3.0
"""How many times what the server can answer is asked."""

REFUSAL_SECONDS = 0.01
"""How long it may take to be refused."""


def measure(folder: Path, *, seconds: float) -> list[Row]:
    """Measures one client alone, what the server can answer, and then three times as much, for so many seconds."""
    model = f"blocks={networks.save_blocks(folder, buckets=BUCKETS)}"
    request = _request()
    with servers.fluoroscope(model) as address:  # where all that is under way may wait
        alone = load.latencies(address, PREDICT, request, seconds=seconds / 4)
        capacity = load.throughput(address, PREDICT, request, in_flight=2 * TOGETHER, seconds=seconds / 4)
    with servers.fluoroscope(model, options=[f"--max-queue={TOGETHER}"]) as address:
        times, codes = crowd.overrun(address, PREDICT, request, rate=TIMES * capacity, seconds=seconds)
    answered = times[codes == grpc.StatusCode.OK.value[0]]
    refused = times[codes == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]]
    if len(answered) + len(refused) != len(times):
        raise RuntimeError(f"some calls ended otherwise: {np.unique(codes)}")
    unloaded, p99 = float(np.percentile(alone, 99)), float(np.percentile(answered, 99))
    refusal = float(np.percentile(refused, 99))
    rate = len(answered) / seconds
    asked = f"asked {TIMES:g} times what it can"
    return [
        Row(
            what=f"{asked}: p99 of those that are answered",
            ours=f"{1e3 * p99:.0f} ms",
            theirs=f"{1e3 * unloaded:.0f} ms (one client alone)",
            ratio=p99 / unloaded,
            target="at most 3.00",
        ),
        Row(
            what=f"{asked}: p99 of those that are refused, {len(refused) / len(times):.0%}",
            ours=f"{1e3 * refusal:.1f} ms (half of them: {1e3 * float(np.median(refused)):.1f} ms)",
            theirs=f"{1e3 * REFUSAL_SECONDS:.0f} ms (the most)",
            ratio=refusal / REFUSAL_SECONDS,
            target="at most 1.00",
        ),
        Row(
            what=f"{asked}: what is answered",
            ours=f"{rate:,.0f} requests/s",
            theirs=f"{capacity:,.0f} requests/s (as many clients as it can serve)",
            ratio=rate / capacity,
            target="at least 0.90",
        ),
    ]


def _request() -> bytes:
    x = np.random.default_rng(0).random((ROWS, networks.BLOCK_FEATURES), np.float32)
    return PredictRequest(model="blocks", inputs={"x": encode_tensor(x)}).SerializeToString()
