"""InferenceService: runs the network as it was trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fluoroscope.v1.inference_pb2 import PredictRequest, PredictResponse
from fluoroscope.wire import fill_tensor
from fluoroscope_server.rpc.context import current_client
from fluoroscope_server.rpc.decoding import decode_inputs, decode_version, parse
from fluoroscope_server.serving import StageClock

if TYPE_CHECKING:
    from fluoroscope_server.metrics import Metrics
    from fluoroscope_server.rpc.context import Context
    from fluoroscope_server.rpc.open_calls import OpenCalls
    from fluoroscope_server.serving import Limits, Repository


class InferenceService:
    """Takes and gives serialized messages, so that parsing them is a stage that is measured."""

    def __init__(self, repository: Repository, metrics: Metrics, limits: Limits, calls: OpenCalls) -> None:
        """Takes the models, where to count, what a request may ask for, and the predictions that are open."""
        self._repository = repository
        self._metrics = metrics
        self._limits = limits
        self._calls = calls

    async def predict(self, data: bytes, context: Context) -> bytes:
        """Answers one `Predict`."""
        clock = StageClock()
        self._calls.open(context)
        request = parse(PredictRequest, data)
        servable = self._repository.get(request.model, decode_version(request))
        alone = self._calls.one  # then nobody waits, and there is nobody to take turns with
        try:  # by hand: it costs less than `Tally.counting_failure`, and this is the quickest call
            if not alone:
                servable.check_queue(self._limits)
            outputs = await servable.predict(
                decode_inputs(request.inputs, servable.engine.signature),
                request.outputs,
                clock,
                client="" if alone else current_client(),
                alone=alone,
                limits=self._limits,
            )
        except BaseException:
            servable.tally.failed(clock)
            raise
        response = PredictResponse(model=servable.name, version=servable.version)
        for name, array in outputs.items():
            fill_tensor(response.outputs[name], array)
        answer = response.SerializeToString()
        clock.lap("encode")
        self._metrics.observe_stages("Predict", clock.times)
        return answer
