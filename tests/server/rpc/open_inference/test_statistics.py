"""The statistics of a model: every call of it is counted, whatever it asks for and however it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc.aio
import pytest

from fluoroscope_server.rpc.open_inference.inference import open_inference_pb2 as messages

from ..test_limits import WAIT, answer, run, to_its_end
from .test_sites import ask
from .test_stream import Stream, infer

if TYPE_CHECKING:
    from collections.abc import Callable

    from fluoroscope_server.serving import Servable

    from ..test_limits import Served

STATISTICS = "/inference.GRPCInferenceService/ModelStatistics"
STAGES = ("queue", "compute_input", "compute_infer", "compute_output")


async def counted(served: Served) -> dict[str, int]:
    """Returns how often everything has happened so far."""
    data = messages.ModelStatisticsRequest(name="digits").SerializeToString()
    response = await served.channel.unary_unary(STATISTICS)(data, timeout=WAIT)
    (told,) = messages.ModelStatisticsResponse.FromString(response).model_stats
    counts = {field: getattr(told.inference_stats, field).count for field in ("success", "fail", *STAGES)}
    return {"rows": told.inference_count, "executions": told.execution_count, **counts}


async def more(served: Served, before: dict[str, int]) -> dict[str, int]:
    """Returns what has happened since then."""
    return {name: count - before[name] for name, count in (await counted(served)).items() if count != before[name]}


def misshapen() -> bytes:
    request = messages.ModelInferRequest.FromString(infer())
    request.inputs[0].shape[:] = [1, 4]
    return request.SerializeToString()


def misnamed() -> bytes:
    request = messages.ModelInferRequest.FromString(infer())
    request.inputs[0].name = "picture"
    return request.SerializeToString()


@pytest.mark.parametrize(
    "request_bytes",
    [misshapen(), misnamed(), infer(outputs=["logit"]), infer(sites="nowhere"), infer(sites=""), infer(65)],
    ids=["shape", "name", "output", "site", "parameter", "rows"],
)
def test_what_is_refused_has_failed(servable: Servable, request_bytes: bytes) -> None:
    async def test(served: Served) -> None:
        before = await counted(served)
        with pytest.raises(grpc.aio.AioRpcError):
            await ask(served, request_bytes)
        assert (await Stream(served).ask(request_bytes)).error_message
        assert await more(served, before) == {"fail": 2}

    run(servable, test)


def test_so_has_what_our_own_clients_are_refused(servable: Servable) -> None:
    async def test(served: Served) -> None:
        before = await counted(served)
        for refused in (answer(served.predict(65)), to_its_end(served.inspect("nowhere"))):
            with pytest.raises(grpc.aio.AioRpcError):
                await refused
        assert await more(served, before) == {"fail": 2}

    run(servable, test)


@pytest.mark.parametrize("way", ["prediction", "inspection", "stream", "our prediction", "our inspection"])
def test_each_call_is_counted_with_all_its_stages(servable: Servable, way: str) -> None:
    async def test(served: Served) -> None:
        calls: dict[str, Callable[[], Any]] = {
            "prediction": lambda: answer(ask(served, infer())),
            "inspection": lambda: answer(ask(served, infer(sites="Dense_0"))),
            "stream": lambda: Stream(served).ask(infer(sites="Dense_0")),
            "our prediction": lambda: answer(served.predict()),
            "our inspection": lambda: to_its_end(served.inspect("Dense_0")),
        }
        before = await counted(served)
        for _ in range(3):
            await calls[way]()
        assert await more(served, before) == dict.fromkeys(("rows", "executions", "success", *STAGES), 3)

    run(servable, test)
