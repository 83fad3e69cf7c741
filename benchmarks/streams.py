"""Streams of 64 MiB, beside a bare server's in equal messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

import load
from fluoroscope.v1.inspection_pb2 import (
    EXECUTION_AUTO,
    EXECUTION_FUSED,
    Capture,
    InspectActivationsRequest,
    InspectParametersRequest,
)
from fluoroscope.wire import encode_tensor
from row import Samples

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from row import Row

FIRST = 10  # not measured: the first one compiles, and those after it find the room that is used again then
EACH_ROUND = 3  # a stream is short

SERVICE = "/fluoroscope.v1.InspectionService"
READY = ("asyncio", "/bare.Bare/Stream", b"")
"""The bare server's bytes that lie ready."""

COMPUTED = ("asyncio", "/bare.Bare/Compute", b"")
"""The same sites, computed by the bare server when they are asked for."""

TARGET = "at least 0.90"
"""Of what does the same work: nothing that computes comes near bytes that lie ready, where all share two cores."""

Stream = tuple[str, str, bytes]
"""A server, a method, and a serialized request."""


def measure(copies: Sequence[Mapping[str, str]], *, rounds: int) -> list[Row]:
    """Compares what is read of a network with bytes that lie ready, and with the same network in a bare server.

    Args:
        copies: the addresses of each copy of the servers, by name; fluoroscope has the model `wide`.
        rounds: how often each copy is measured, `EACH_ROUND` streams each.
    """
    rates = _rates(copies, {"staged": _activations(EXECUTION_AUTO), "ready": READY, "computed": COMPUTED}, rounds)
    fused = _rates(copies, {"fused": _activations(EXECUTION_FUSED), "computed": COMPUTED}, rounds)
    parameters = _rates(copies, {"parameters": _parameters(), "ready": READY}, rounds)
    return [
        _row("InspectActivations, 64 MiB, fused, beside that network bare", fused, "fused", "computed", TARGET),
        _row("the same, in stages, beside that bare server", rates, "staged", "computed"),
        _row("the same, in stages, beside bytes that lie ready", rates, "staged", "ready"),
        _row("that bare server, beside bytes that lie ready: what can be reached here", rates, "computed", "ready"),
        _row("InspectParameters, 64 MiB, which lie ready too", parameters, "parameters", "ready"),
    ]


def _activations(execution: int) -> Stream:
    x = encode_tensor(np.ones((1, 1), np.float32))
    captures = [Capture(sites=["wide/*"])]
    request = InspectActivationsRequest(model="wide", inputs={"x": x}, captures=captures, execution=execution)  # type: ignore[arg-type]  # its values are such numbers
    return "fluoroscope", f"{SERVICE}/InspectActivations", request.SerializeToString()


def _parameters() -> Stream:
    request = InspectParametersRequest(model="wide", captures=[Capture(sites=["**"])])
    return "fluoroscope", f"{SERVICE}/InspectParameters", request.SerializeToString()


def _rates(copies: Sequence[Mapping[str, str]], streams: Mapping[str, Stream], rounds: int) -> Samples:
    """Reads the streams in turn; returns their megabytes (10^6) per second."""
    samples = Samples()
    for addresses in copies:
        for server, method, request in streams.values():
            for _ in range(FIRST):
                load.stream_rate(addresses[server], method, request)
    for addresses in [each for each in copies for _ in range(EACH_ROUND * rounds)]:
        for name, (server, method, request) in streams.items():
            samples.add(name, load.stream_rate(addresses[server], method, request))
    return samples


def _row(what: str, rates: Samples, ours: str, theirs: str, target: str = "stated") -> Row:
    return rates.rate(what, "MB/s", target, ours=ours, theirs=theirs)
