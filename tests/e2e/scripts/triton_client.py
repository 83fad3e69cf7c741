"""A program that somebody wrote for another server: tritonclient, unchanged, sync and asyncio.

    triton_client.py TARGET MODEL INPUT.npy OUTPUT.npz
    triton_client.py TARGET MODEL INPUT.npy OUTPUT.npz BF16

Asks for a prediction in every way that the library has, and for what is at sites; writes what came, and what was said.
With a type, asks for one prediction of inputs of that type only, and writes what came as 16-bit integers.
"""

from __future__ import annotations

import asyncio
import json
import queue
import sys
from typing import Any

import ml_dtypes
import numpy as np
import tritonclient.grpc as sync
from tritonclient.grpc import aio

SITES = {"sites": "Dense_0,relu:*"}


def inputs_of(grpc: Any, x: np.ndarray) -> list[Any]:
    tensor = grpc.InferInput("x", x.shape, "FP32")
    tensor.set_data_from_numpy(x)
    return [tensor]


def named(result: Any, prefix: str) -> dict[str, np.ndarray]:
    return {f"{prefix}{each.name}": result.as_numpy(each.name) for each in result.get_response().outputs}


def by_stream(client: sync.InferenceServerClient, model: str, x: np.ndarray) -> dict[str, np.ndarray]:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(callback=lambda result, error: answers.put((result, error)))
    client.async_stream_infer(model, inputs_of(sync, x), request_id="plain")
    client.async_stream_infer("nobody", inputs_of(sync, x), request_id="wrong")
    client.async_stream_infer(model, inputs_of(sync, x), request_id="sites", parameters=SITES)
    found: dict[str, np.ndarray] = {}
    finals = 0
    while finals < 2:
        result, error = answers.get(timeout=60)
        if error is not None:
            found["stream:error"] = np.array(str(error))
            continue
        response = result.get_response()
        finals += response.parameters["triton_final_response"].bool_param
        found |= named(result, f"stream:{response.id}:")
    client.stop_stream()
    return found


def all_in_sync(target: str, model: str, x: np.ndarray) -> dict[str, np.ndarray]:
    with sync.InferenceServerClient(target) as client:
        said = {
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "model_ready": client.is_model_ready(model),
            "nobody_ready": client.is_model_ready("nobody"),
            "server": client.get_server_metadata(as_json=True),
            "metadata": client.get_model_metadata(model, as_json=True),
            "config": client.get_model_config(model, as_json=True),
            "index": client.get_model_repository_index(as_json=True),
        }
        found = named(client.infer(model, inputs_of(sync, x), request_id="7"), "sync:")
        wanted = [sync.InferRequestedOutput("logits")]
        found |= named(client.infer(model, inputs_of(sync, x), outputs=wanted, parameters=SITES), "sites:")
        found |= by_stream(client, model, x)
        said["statistics"] = client.get_inference_statistics(model, as_json=True)
        try:
            client.infer(model, inputs_of(sync, x[:, :5]))
        except sync.InferenceServerException as error:
            said["wrong"] = [error.status(), error.message()]
        try:
            client.infer("nobody", inputs_of(sync, x))
        except sync.InferenceServerException as error:
            said["unknown"] = [error.status(), error.message()]
    sys.stdout.write(json.dumps(said))
    return found


async def all_in_asyncio(target: str, model: str, x: np.ndarray) -> dict[str, np.ndarray]:
    async with aio.InferenceServerClient(target) as client:
        assert await client.is_model_ready(model)
        many = await asyncio.gather(*(client.infer(model, inputs_of(aio, x[:1])) for _ in range(16)))
        assert len({each.as_numpy("logits").shape for each in many}) == 1
        return named(await client.infer(model, inputs_of(aio, x)), "aio:")


def in_bfloat16(target: str, model: str, x: np.ndarray) -> dict[str, np.ndarray]:
    tensor = sync.InferInput("x", x.shape, "BF16")
    tensor.set_data_from_numpy(x.astype(ml_dtypes.bfloat16))
    with sync.InferenceServerClient(target) as client:
        result = client.infer(model, [tensor])
    (output,) = result.get_response().outputs
    assert output.datatype == "BF16"
    return {output.name: result.as_numpy(output.name).view(np.uint16)}


def main() -> None:
    target, model, source, destination, *datatype = sys.argv[1:]
    x = np.load(source)
    if datatype:
        np.savez(destination, allow_pickle=False, **in_bfloat16(target, model, x))
        return
    found = all_in_sync(target, model, x) | asyncio.run(all_in_asyncio(target, model, x))
    np.savez(destination, allow_pickle=False, **found)


main()
