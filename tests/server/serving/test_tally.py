"""The tally of one version of a model."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest

from fluoroscope_server.serving import StageClock
from fluoroscope_server.serving.tally import TOGETHER, Tally


@pytest.mark.parametrize("calls", [1, TOGETHER - 1, TOGETHER, 2 * TOGETHER + 3])
def test_all_calls_are_counted_however_they_are_added_up(calls: int) -> None:
    tally = Tally()
    for rows in range(calls):
        clock = StageClock()
        clock.lap("queue")
        clock.lap("compute")
        tally.answered(rows, clock)
    tally.failed(StageClock())
    for _ in range(2):  # to read it changes nothing
        sums = tally.sums()
        assert (sums.success.count, sums.failure.count, sums.rows) == (calls, 1, calls * (calls - 1) // 2)
        assert sums.stage("queue").count == sums.stage("compute").count == calls
        assert sums.success.seconds >= sums.stage("queue").seconds + sums.stage("compute").seconds > 0
        assert sums.stage("pad").count == 0
        assert 0 <= datetime.now(UTC).timestamp() - sums.last < 60


def test_nothing_was_called() -> None:
    sums = Tally().sums()
    assert (sums.success.count, sums.rows, sums.executions, sums.last) == (0, 0, 0, 0.0)


def test_executions_are_counted_on_any_thread() -> None:
    tally = Tally()

    def run() -> None:
        for _ in range(1000):
            tally.executed()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tally.sums().executions == 4000
