"""What breaks in one call stays in that call."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import numpy as np
import pytest

from fluoroscope.v1 import inference_pb2, inspection_pb2
from fluoroscope.wire import decode_tensor, encode_tensor
from fluoroscope_server.engine import Engine
from fluoroscope_server.metrics import Metrics
from fluoroscope_server.rpc import RpcServer
from fluoroscope_server.settings import Settings

from ..serving.house import repository_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fluoroscope_server.serving import Servable

WAIT = 30
INPUTS = {"image": encode_tensor(np.ones((3, 2, 2), np.float32))}
REQUESTS = {
    "/fluoroscope.v1.InferenceService/Predict": inference_pb2.PredictRequest(model="digits", inputs=INPUTS),
    "/fluoroscope.v1.InspectionService/InspectActivations": inspection_pb2.InspectActivationsRequest(
        model="digits", inputs=INPUTS, captures=[inspection_pb2.Capture(sites=["Dense_0"])]
    ),
}
SECRET = "device on fire"


class Device:
    """Lets the engine fail where it touches the device."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.failures: list[BaseException] = []
        predict, run = Engine.predict, Engine.run

        def predict_or_fail(engine: Engine, *arguments: Any) -> Any:
            self.fail()
            return predict(engine, *arguments)

        def run_or_fail(engine: Engine, *arguments: Any) -> Iterator[Any]:
            self.fail()
            yield from run(engine, *arguments)

        patch.setattr(Engine, "predict", predict_or_fail)
        patch.setattr(Engine, "run", run_or_fail)

    def fail(self) -> None:
        if self.failures:
            raise self.failures.pop()


@pytest.mark.parametrize("method", REQUESTS)
@pytest.mark.parametrize("failure", [ZeroDivisionError, SystemExit, StopIteration])
def test_a_device_that_fails_once_fails_one_call(
    servable: Servable,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    method: str,
    failure: type[BaseException],
) -> None:
    device = Device(monkeypatch)

    async def main() -> None:
        server = RpcServer(repository_of(servable), Metrics(), Settings(models=()))
        address = await server.start("127.0.0.1:0")
        try:
            async with grpc.aio.insecure_channel(address) as channel:
                call: Any = channel.unary_stream(method)
                request = REQUESTS[method].SerializeToString()
                whole = [message async for message in call(request, timeout=WAIT)]
                device.failures = [failure(SECRET)]
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    [message async for message in call(request, timeout=WAIT)]
                assert caught.value.code() is grpc.StatusCode.INTERNAL
                assert SECRET not in str(caught.value.details())
                identity = dict(tuple(caught.value.trailing_metadata() or ()))["x-request-id"]
                assert identity in str(caught.value.details())
                (record,) = [each for each in caplog.records if each.name.startswith("fluoroscope_server")]
                assert record.exc_info
                assert identity in record.getMessage()
                again = [message async for message in call(request, timeout=WAIT)]
                assert len(again) == len(whole)
                if len(whole) == 1:
                    first, second = (inference_pb2.PredictResponse.FromString(each[0]) for each in (whole, again))
                    np.testing.assert_array_equal(
                        decode_tensor(first.outputs["logits"]), decode_tensor(second.outputs["logits"])
                    )
        finally:
            await server.drain(0)

    with caplog.at_level(logging.INFO):
        asyncio.run(asyncio.wait_for(main(), 2 * WAIT))
