"""InferenceService: runs the network as it was trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fluoroscope.v1.inference_pb2 import PredictRequest, PredictResponse
from fluoroscope.wire import fill_tensor
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

    async def predict(self, data: bytes, context: Context) -> bytes:  # noqa: ARG002 (gRPC passes it)
        """Answers one `Predict`."""
        clock = StageClock()
        request = parse(PredictRequest, data)
        servable = self._repository.get(request.model, decode_version(request))
        outputs = await servable.predict(decode_inputs(request.inputs), request.outputs, clock)
        response = PredictResponse(model=servable.name, version=servable.version)
        for name, array in outputs.items():
            fill_tensor(response.outputs[name], array)
        answer = response.SerializeToString()
        clock.lap("encode")
        self._metrics.observe_stages("Predict", clock.times)
        return answer
