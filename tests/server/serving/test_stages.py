"""The clock of a request."""

from __future__ import annotations

from fluoroscope_server.serving import StageClock


def test_stages_follow_each_other_without_a_gap() -> None:
    clock = StageClock()
    for stage in ("decode", "queue", "compute"):
        clock.lap(stage)
    elapsed = clock.elapsed()
    assert [stage for stage, _ in clock.times] == ["decode", "queue", "compute"]
    assert all(seconds >= 0 for _, seconds in clock.times)
    assert 0 < sum(seconds for _, seconds in clock.times) <= elapsed
