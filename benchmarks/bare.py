"""The bare servers: what grpcio itself costs, with the same network and the same messages.

`predict` decodes a PredictRequest, calls the jitted network, and encodes a PredictResponse: no limits, no metrics,
no checks. `stream` sends bytes that lie ready, in messages of 1 MiB; `compute` runs the wide network first, and sends
the bytes of its four sites in such messages.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import jax
import numpy as np
import uvloop

import networks
from fluoroscope.v1.inference_pb2 import PredictRequest, PredictResponse
from fluoroscope.v1.tensor_pb2 import DATA_TYPE_FLOAT32
from fluoroscope_server.allocator import keep_large_buffers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

MESSAGE_BYTES = 1 << 20
MESSAGES = [bytes([number]) * MESSAGE_BYTES for number in range(64)]


def network() -> Callable[[bytes], bytes]:
    """Returns a function from a serialized request to a serialized response."""
    module, variables = networks.digits()
    forward = jax.jit(module.apply)
    for rows in (1, 8, 64):
        jax.block_until_ready(forward(variables, np.zeros((rows, *networks.IMAGE), np.float32)))

    def predict(data: bytes) -> bytes:
        request = PredictRequest.FromString(data)
        tensor = request.inputs["image"]
        logits = np.asarray(forward(variables, np.frombuffer(tensor.data, np.float32).reshape(tuple(tensor.shape))))
        response = PredictResponse(model="digits", version=1)
        output = response.outputs["logits"]
        output.data_type = DATA_TYPE_FLOAT32
        output.shape.extend(logits.shape)
        output.data = logits.tobytes()
        return response.SerializeToString()

    return predict


def wide() -> Callable[[], Iterator[bytes]]:
    """Returns a function that runs the wide network and makes messages of its sites."""
    weights = jax.device_put(np.arange(networks.WIDE, dtype=np.float32))
    sites = jax.jit(networks.wide_sites)
    x = np.ones((1, 1), np.float32)

    def compute() -> Iterator[bytes]:
        for site in jax.block_until_ready(sites(weights, x)):
            view = np.asarray(site).data.cast("B")
            for offset in range(0, len(view), MESSAGE_BYTES):
                yield bytes(view[offset : offset + MESSAGE_BYTES])

    return compute


def _register(server: Any, **methods: Any) -> int:
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bare.Bare", methods),))
    port: int = server.add_insecure_port("127.0.0.1:0")
    return port


async def serve_asyncio() -> None:
    """Serves on one event loop, computing on it."""
    answer = network()
    answer_wide = wide()

    async def predict(data: bytes, _: Any) -> bytes:
        return answer(data)

    async def stream(_: bytes, __: Any) -> AsyncIterator[bytes]:
        for message in MESSAGES:
            yield message

    async def compute(_: bytes, __: Any) -> AsyncIterator[bytes]:
        for message in answer_wide():
            yield message

    server = grpc.aio.server()
    port = _register(
        server,
        Predict=grpc.unary_unary_rpc_method_handler(predict),
        Stream=grpc.unary_stream_rpc_method_handler(stream),
        Compute=grpc.unary_stream_rpc_method_handler(compute),
    )
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


def serve_threaded() -> None:
    """Serves on a pool of threads."""
    answer = network()
    server = grpc.server(ThreadPoolExecutor(max_workers=16))
    port = _register(server, Predict=grpc.unary_unary_rpc_method_handler(lambda data, _: answer(data)))
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    keep_large_buffers()
    if sys.argv[1] == "asyncio":
        uvloop.run(serve_asyncio())
    else:
        serve_threaded()
