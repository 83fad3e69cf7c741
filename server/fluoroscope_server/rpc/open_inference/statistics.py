"""What the protocol tells of the calls of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fluoroscope_server.rpc.open_inference.inference import open_inference_pb2 as messages

if TYPE_CHECKING:
    from fluoroscope_server.serving import Servable
    from fluoroscope_server.serving.tally import Total


def statistics_of(servable: Servable) -> messages.ModelStatistics:
    """Returns how often one version of a model was called, and how long that took."""
    tally = servable.tally
    return messages.ModelStatistics(
        name=servable.name,
        version=str(servable.version),
        last_inference=int(1000 * tally.last),
        inference_count=tally.rows,
        execution_count=tally.executions,
        inference_stats=messages.InferStatistics(
            success=_duration(tally.success),
            fail=_duration(tally.failure),
            queue=_duration(tally.total("queue")),
            compute_input=_duration(tally.total("pad")),
            compute_infer=_duration(tally.total("compute")),
            compute_output=_duration(tally.total("device_to_host")),
        ),
    )


def _duration(total: Total) -> messages.StatisticDuration:
    return messages.StatisticDuration(count=total.count, ns=int(1e9 * total.seconds))
