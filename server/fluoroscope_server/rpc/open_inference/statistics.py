"""What the protocol tells of the calls of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fluoroscope_server.rpc.open_inference.inference import open_inference_pb2 as messages

if TYPE_CHECKING:
    from fluoroscope_server.serving import Servable
    from fluoroscope_server.serving.tally import Total


def statistics_of(servable: Servable) -> messages.ModelStatistics:
    """Returns how often one version of a model was called, and how long that took."""
    sums = servable.tally.sums()
    return messages.ModelStatistics(
        name=servable.name,
        version=str(servable.version),
        last_inference=int(1000 * sums.last),
        inference_count=sums.rows,
        execution_count=sums.executions,
        inference_stats=messages.InferStatistics(
            success=_duration(sums.success),
            fail=_duration(sums.failure),
            queue=_duration(sums.stage("queue")),
            compute_input=_duration(sums.stage("pad")),
            compute_infer=_duration(sums.stage("compute")),
            compute_output=_duration(sums.stage("device_to_host")),
        ),
    )


def _duration(total: Total) -> messages.StatisticDuration:
    return messages.StatisticDuration(count=total.count, ns=int(1e9 * total.seconds))
