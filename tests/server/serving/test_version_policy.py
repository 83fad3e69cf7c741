"""The version policy: what may be written, and which steps serve by it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluoroscope_server.errors import ConfigError
from fluoroscope_server.serving.version_policy import VersionPolicy
from fluoroscope_server.settings import Swap

STEPS = (100, 300, 200)


@pytest.mark.parametrize(
    ("versions", "chosen"),
    [
        ("latest", [300]),
        ({"latest": 2}, [300, 200]),
        ({"latest": 9}, [300, 200, 100]),
        ("all", [300, 200, 100]),
        ([100, 200], [200, 100]),
        ([100, 700], [100]),
        ([700], []),
    ],
)
def test_which_steps_serve(versions: Any, chosen: list[int]) -> None:
    assert VersionPolicy.parse({"versions": versions}).choose(STEPS) == chosen


def test_what_is_usual() -> None:
    assert VersionPolicy.parse({}) == VersionPolicy()
    assert VersionPolicy().choose(STEPS) == [300]
    assert VersionPolicy().choose([]) == []


@given(st.sets(st.integers(0, 1 << 62)), st.integers(1, 5))
def test_the_latest_are_the_greatest(steps: set[int], count: int) -> None:
    chosen = VersionPolicy.parse({"versions": {"latest": count}}).choose(steps)
    assert chosen == sorted(steps)[::-1][:count]


def test_labels_and_the_way_to_swap() -> None:
    policy = VersionPolicy.parse({"labels": {"stable": 100, "v-1.b_": 0}, "swap": "stop-then-load"})
    assert policy.labels == {"stable": 100, "v-1.b_": 0}
    assert policy.swap is Swap.STOP_THEN_LOAD


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"versions": "newest"}, r"`versions` must be \"latest\", .* or \"all\", not 'newest'"),
        ({"versions": {"latest": 0}}, "`versions` must be"),
        ({"versions": {"latest": True}}, "`versions` must be"),
        ({"versions": {"oldest": 1}}, "`versions` must be"),
        ({"versions": []}, "`versions` must be"),
        ({"versions": [1, -2]}, "`versions` must be"),
        ({"versions": 7}, "`versions` must be"),
        ({"labels": ["stable"]}, "`labels` must be names with the steps that they mean"),
        ({"labels": {"stable": "100"}}, "`labels` must be names"),
        ({"labels": {"a b": 100}}, "label name 'a b' may hold letters"),
        ({"swap": "sometimes"}, "`swap` must be one of keep, stop-then-load, not 'sometimes'"),
        ({"swap": ["keep"]}, "`swap` must be one of"),
    ],
)
def test_what_is_refused(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VersionPolicy.parse(raw)
