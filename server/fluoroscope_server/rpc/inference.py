"""InferenceService: runs the network as it was trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fluoroscope.v1.inference_pb2 import PredictRequest, PredictResponse
from fluoroscope.wire import fill_tensor
from fluoroscope_server.rpc.context import client_of
from fluoroscope_server.rpc.decoding import decode_inputs, decode_version, parse
from fluoroscope_server.serving import StageClock

if TYPE_CHECKING:
    from fluoroscope_server.metrics import Metrics
    from fluoroscope_server.rpc.context import Context
    from fluoroscope_server.serving import Repository


class InferenceService:
    """Takes and gives serialized messages, so that parsing them is a stage that is measured."""

    def __init__(self, repository: Repository, metrics: Metrics) -> None:
        """Takes the models, and where to count."""
        self._repository = repository
        self._metrics = metrics
        self._open = 0

    async def predict(self, data: bytes, context: Context) -> bytes:
        """Answers one `Predict`."""
        clock = StageClock()
        self._open += 1
        context.add_done_callback(self._close)  # type: ignore[arg-type]  # the stub's is a class, not a callable
        request = parse(PredictRequest, data)
        servable = self._repository.get(request.model, decode_version(request))
        servable.batcher.check_room()
        inputs = decode_inputs(request.inputs)
        outputs = await servable.predict(
            inputs, request.outputs, clock, client=client_of(context), alone=self._open == 1
        )
        response = PredictResponse(model=servable.name, version=servable.version)
        for name, array in outputs.items():
            fill_tensor(response.outputs[name], array)
        answer = response.SerializeToString()
        clock.lap("encode")
        self._metrics.observe_stages("Predict", clock.times)
        return answer

    def _close(self, _: object) -> None:
        """Counts a call whose answer has left, or whose caller is gone: who calls again after it is still alone."""
        self._open -= 1
