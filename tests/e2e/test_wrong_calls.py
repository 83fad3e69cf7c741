"""Wrong calls: no message, no such method, no time left, no gRPC at all; the server goes on serving."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

from fluoroscope.v1.inference_pb2 import PredictResponse
from fluoroscope.v1.inspection_pb2 import Capture, InspectActivationsRequest
from fluoroscope.wire import decode_tensor

from . import raw
from .aftermath import keeps_secrets, still_serves
from .raw import INSPECT, LIST_MODELS, METHODS, PREDICT, Refusal, predict

if TYPE_CHECKING:
    from .server_process import ServerProcess

NOT_FOUND = "NOT_FOUND"


@pytest.mark.parametrize("method", METHODS)
def test_an_empty_message(server: ServerProcess, method: str) -> None:
    found = raw.call(server.target, method, b"")
    if method == LIST_MODELS:
        assert isinstance(found, list)
    else:
        assert isinstance(found, Refusal)
        assert (found.code, found.reason, found.field) == (NOT_FOUND, "MODEL_NOT_FOUND", "model")
    still_serves(server)


@pytest.mark.parametrize(
    "method", ["/fluoroscope.v1.InferenceService/Predicts", "/fluoroscope.v2.InferenceService/Predict", "/", "//"]
)
def test_an_unknown_method(server: ServerProcess, method: str) -> None:
    found = raw.call(server.target, method, predict())
    assert isinstance(found, Refusal)
    assert found.code == "UNIMPLEMENTED"
    keeps_secrets(found)
    still_serves(server)


@pytest.mark.parametrize("method", METHODS)
def test_a_deadline_that_has_passed(server: ServerProcess, method: str) -> None:
    found = raw.call(server.target, method, predict(), timeout=-1.0)
    assert isinstance(found, Refusal)
    assert found.code == "DEADLINE_EXCEEDED"
    still_serves(server)


@pytest.mark.parametrize(
    "sent",
    [
        bytes(np.random.default_rng(0).integers(0, 256, 4096, np.uint8)),
        b"",
        b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
        bytes.fromhex("16030100a5010000a10303") + bytes(160),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000") + b"\xff" * 99,
    ],
    ids=["noise", "nothing", "HTTP/1.1", "TLS", "HTTP/2 without gRPC"],
)
def test_raw_bytes_to_the_port(server: ServerProcess, sent: bytes) -> None:
    host, _, port = server.target.rpartition(":")
    received = b""
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        with suppress(ConnectionError):
            while piece := connection.recv(4096):  # until the server hangs up; the timeout bounds it
                received += piece
                assert len(received) < 1 << 20
    assert b"Traceback" not in received
    still_serves(server)


@pytest.mark.parametrize("method", ["/grpc.health.v1.Health/Watch", INSPECT])
def test_a_crowd_that_vanishes_at_any_time(server: ServerProcess, method: str) -> None:
    """Whatever is left of a call must not ask gRPC of it when it has ended: that ended the process."""
    same = predict()
    question = InspectActivationsRequest(model=same.model, inputs=same.inputs, captures=[Capture(sites=["**"])])
    data = question.SerializeToString() if method == INSPECT else b""

    def vanish(_: int) -> None:
        with grpc.insecure_channel(server.target) as channel:
            stream: Any = channel.unary_stream(method)
            for index in range(25):
                with suppress(grpc.RpcError):
                    list(stream(data, timeout=0.001 * (1 + index % 4)))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(vanish, range(24)))
    still_serves(server)
    server.at_rest()


def test_a_dead_connection_and_a_good_one(server: ServerProcess) -> None:
    with grpc.insecure_channel(server.target) as channel:
        call: Any = channel.unary_unary(PREDICT)
        futures = [call.future(predict().SerializeToString(), timeout=30) for _ in range(50)]
        for future in futures[::2]:
            future.cancel()
        answers = [PredictResponse.FromString(future.result()) for future in futures[1::2]]
    first, *others = [decode_tensor(answer.outputs["logits"]) for answer in answers]
    for each in others:  # a call that was given up does not hurt its neighbours; how many go together may differ
        np.testing.assert_allclose(each, first, rtol=1e-5, atol=1e-6)
    server.at_rest()
    still_serves(server)
