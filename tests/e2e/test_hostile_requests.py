"""Every method of the server, found by reflection, under requests that nobody should send.

FLUOROSCOPE_FUZZ_SECONDS says for how long; when it is not set, the same few hundred requests are sent each time.
"""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

import fluoroscope

from .conftest import ended_well
from .hostile import MODEL, Maker
from .saved import batch
from .server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.descriptor import MethodDescriptor

    from .conftest import Saved

SECONDS = float(os.environ.get("FLUOROSCOPE_FUZZ_SECONDS", "0"))
EACH = 20
"""How many requests each method gets in the suite."""

FIRST_SEED = int(os.environ.get("FLUOROSCOPE_FUZZ_SEED", "0"))
CHANGING = {"LoadModel", "UnloadModel", "SetLabel", "RepositoryModelLoad", "RepositoryModelUnload"}
"""These may do what they are asked: so no model that there is, is named."""

EXPECTED = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
MOST_ANSWERS = 20
"""A stream is left after so many: some never end."""


@pytest.fixture(scope="module")
def hostile_server(checkpoints: Saved) -> Iterator[ServerProcess]:
    """A server of its own: it compiles much of what it is asked."""
    limits = ("--max-request-mib=1", "--max-inspection-mib=1")
    with ServerProcess({MODEL: checkpoints.folders[MODEL]}, *limits) as process:
        yield process.until_ready()
        ended_well(process)


@pytest.fixture(scope="module")
def methods(hostile_server: ServerProcess) -> list[MethodDescriptor]:
    with grpc.insecure_channel(hostile_server.target) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        pool = DescriptorPool(database)
        names = sorted(database.get_services())
        found = [method for name in names for method in pool.FindServiceByName(name).methods]
        return [method for method in found if method.name != "Watch"]  # never ends, and Check parses the same message


def status_of(channel: grpc.Channel, method: MethodDescriptor, requests: list[bytes]) -> tuple[grpc.StatusCode, str]:
    """Sends requests to a method as they are; returns how the call ended."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    ask: Any = channel.stream_stream(path) if method.client_streaming else channel.unary_stream(path)
    call = ask(iter(requests) if method.client_streaming else requests[0], timeout=60)
    try:
        answers = sum(1 for _ in itertools.islice(call, MOST_ANSWERS))
    except grpc.RpcError as error:
        refused: Any = error
        return refused.code(), refused.details()
    if answers == MOST_ANSWERS:
        call.cancel()
        return grpc.StatusCode.OK, ""
    return call.code(), call.details()


def attack(channel: grpc.Channel, method: MethodDescriptor, seed: int) -> grpc.StatusCode:
    """Sends what a seed makes for a method; returns how the call ended, which must be one of the expected ways."""
    maker = Maker(seed, real=method.name not in CHANGING)
    requests = [maker.request(method.input_type) for _ in range(3 if method.client_streaming else 1)]
    code, details = status_of(channel, method, requests)
    assert code in EXPECTED, f"{method.full_name} with seed {seed} ended with {code}: {details}"
    return code


@pytest.mark.timeout(SECONDS + 300)
def test_no_request_makes_an_internal_error(hostile_server: ServerProcess, methods: list[MethodDescriptor]) -> None:
    assert len(methods) > 10
    ends: Counter[grpc.StatusCode] = Counter()
    with grpc.insecure_channel(hostile_server.target) as channel:
        end = time.monotonic() + SECONDS
        for seed in itertools.count(FIRST_SEED):
            ends.update(attack(channel, method, seed) for method in methods)
            if time.monotonic() > end and seed >= FIRST_SEED + EACH - 1:
                break
    # What is refused at the first check says little of those behind it.
    assert ends[grpc.StatusCode.OK] > sum(ends.values()) / 10
    assert ends[grpc.StatusCode.INVALID_ARGUMENT] > sum(ends.values()) / 10
    with fluoroscope.Client(hostile_server.target) as client:
        assert np.isfinite(client.predict(MODEL, {"x": batch(2)})["logits"]).all()
    assert hostile_server.metrics().total("grpc_server_in_flight") == 0
