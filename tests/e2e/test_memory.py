"""200 MB of activations, received without JAX, and what that costs on either side."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import jax
import numpy as np
import pytest
from xxhash import xxh3_64_hexdigest

import fluoroscope
from fluoroscope.v1 import inspection_pb2, inspection_pb2_grpc
from fluoroscope.wire import fill_tensor

from .conftest import WIDE_HIDDEN, WIDE_ROWS
from .saved import base_network, batch
from .server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIB = 1 << 20
SCRIPT = Path(__file__).parent / "scripts" / "wide_client.py"
SITES = "activations/*"
TOLERANCE_CLIENT, TOLERANCE_SERVER = 32 * MIB, 64 * MIB


@pytest.fixture(scope="module")
def expected(wide_variables: tuple[Path, Any]) -> dict[str, list[Any]]:
    """What must come: checksum, dtype, shape and bytes of each activation, computed by the network itself."""
    network = base_network("relu", WIDE_HIDDEN, 4)
    apply = jax.jit(partial(network.apply, return_activations=True))
    _, activations = apply(wide_variables[1], batch(WIDE_ROWS))
    values = [np.asarray(each) for each in activations]
    return {
        f"activations/{index}": [xxh3_64_hexdigest(each.data), each.dtype.name, list(each.shape), each.nbytes]
        for index, each in enumerate(values)
    }


def start(mode: str, server: ServerProcess) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), mode, server.target, SITES]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    answer: dict[str, Any] = json.loads(said.splitlines()[-1])
    return answer


@contextmanager
def stalled(server: ServerProcess) -> Iterator[subprocess.Popen[str]]:
    """Gives a client that has read one value of the stream, and reads no more until its standard input ends."""
    process = start("stall", server)
    try:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == {"first": "activations/0"}
        yield process
    finally:
        process.kill()
        process.communicate(timeout=60)


@pytest.mark.parametrize("mode", ["collect", "stream"])
def test_both_sides_hold_the_values_and_little_else(
    wide_variables: tuple[Path, Any],
    expected: dict[str, list[Any]],
    mode: str,
    record_property: Callable[[str, object], None],
) -> None:
    sizes = [size for *_, size in expected.values()]
    assert sum(sizes) > 200_000_000

    with ServerProcess({"wide": wide_variables[0]}) as server:  # a new one: nothing is held from other questions
        before = server.until_ready().resident_bytes()
        server.forget_peak()
        answers = [finish(start(mode, server)) for _ in range(3)]
        growth = server.peak_bytes() - before

    for answer in answers:
        assert list(answer["found"]) == list(expected)
        assert answer["found"] == expected
    # How much the transport reads ahead, and the allocator keeps, differs; what a client must hold is in each of them.
    of_client = min(answer["growth"] for answer in answers)
    record_property("client_growth_mib", of_client // MIB)
    record_property("server_growth_mib", growth // MIB)
    held = sum(sizes) if mode == "collect" else max(sizes)
    assert held * 0.9 < of_client < held + TOLERANCE_CLIENT
    assert growth < sum(sizes) + TOLERANCE_SERVER, "less if what the load has freed is resident still, and used again"


def test_more_than_the_servers_limit_is_refused_before_anything_runs(wide_server: ServerProcess) -> None:
    request = inspection_pb2.InspectActivationsRequest(model="wide")
    fill_tensor(request.inputs["x"], batch(WIDE_ROWS))
    for stop in (-1, -2, -3):  # each is 384 MiB
        sites = ["Dense_*", "Dense_*/dot_general:0", "activations/*"]
        request.captures.add(sites=sites, slices=[inspection_pb2.Slice(axis=0, stop=stop)])
    compiled = wide_server.metrics().total("fluoroscope_compile_seconds_count")

    with grpc.insecure_channel(wide_server.target) as channel:
        stub = inspection_pb2_grpc.InspectionServiceStub(channel)
        request.max_bytes = 1 << 60  # the server's own limit is the lower one
        with pytest.raises(grpc.RpcError, match="the limit is 1,073,741,824") as refused:
            list(stub.InspectActivations(request))

    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert wide_server.metrics().total("fluoroscope_compile_seconds_count") == compiled


def test_a_client_that_vanishes_leaves_nothing_behind(wide_server: ServerProcess, expected: dict[str, Any]) -> None:
    total = sum(size for *_, size in expected.values())
    for _ in range(3):  # what is let go is kept for the next, so memory grows at first
        with stalled(wide_server) as process:
            process.kill()
        wide_server.at_rest()
    before = wide_server.resident_bytes()
    cancelled = wide_server.metrics()

    for _ in range(6):
        with stalled(wide_server) as process:
            assert wide_server.metrics().total("grpc_server_in_flight", grpc_method="InspectActivations") == 1
            process.kill()
        wide_server.at_rest()

    after = wide_server.metrics()
    ended = [
        each.total("grpc_server_handled_total", grpc_method="InspectActivations", grpc_code="CANCELLED")
        for each in (cancelled, after)
    ]
    assert ended[1] == ended[0] + 6
    # Where small buffers lie between, the allocator may need room for some of the large ones anew, but not for all six.
    assert wide_server.resident_bytes() < before + total, "six abandoned streams must not be kept"
    with fluoroscope.Client(wide_server.target) as client:
        assert client.predict("wide", {"x": batch(2)})["logits"].shape == (2, 4)
    assert finish(start("stream", wide_server))["found"] == expected


def test_a_client_that_vanishes_is_no_error_of_the_server(wide_server: ServerProcess) -> None:
    said = len(wide_server.said)
    for _ in range(5):
        with stalled(wide_server) as process:
            process.kill()
        wide_server.at_rest()
    assert wide_server.said[said:].strip() == ""


def test_a_call_that_is_cancelled_is_ended(wide_server: ServerProcess) -> None:
    with fluoroscope.Client(wide_server.target) as client:
        stream = client.stream("wide", {"x": batch(WIDE_ROWS)}, sites=SITES)
        assert next(stream).site == "activations/0"
        stream.close()
        wide_server.at_rest()
        assert client.predict("wide", {"x": batch(1)})["logits"].shape == (1, 4)


def test_a_reader_that_stops_holds_nobody_else_up(wide_server: ServerProcess, expected: dict[str, Any]) -> None:
    total = sum(size for *_, size in expected.values())
    with fluoroscope.Client(wide_server.target, timeout=30) as client, stalled(wide_server) as process:
        before = wide_server.metrics()
        wide_server.forget_peak()
        resident = wide_server.resident_bytes()
        for _ in range(50):
            assert client.predict("wide", {"x": batch(1)})["logits"].shape == (1, 4)
        assert wide_server.peak_bytes() < resident + total / 4

        during = wide_server.metrics()
        assert during.total("grpc_server_in_flight", grpc_method="InspectActivations") == 1
        # What it does not read is not sent either: a few chunks are on their way, the rest waits on the device.
        sent = during.total("fluoroscope_stream_chunks_total") - before.total("fluoroscope_stream_chunks_total")
        assert sent <= 16
        assert finish(process)["found"] == expected
    wide_server.at_rest()
