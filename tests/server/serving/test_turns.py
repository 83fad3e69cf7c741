"""Turns: predictions first, inspections not starved, and everybody in turn. No threads, and no clock."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluoroscope_server.serving.turns import FIRST_STAGE_SECONDS, SHARE, Turn, Turns

PREDICTION, INSPECTION = Turn.PREDICTION, Turn.INSPECTION


def make(*waiting: tuple[Turn, str], most_inspections: int = 1) -> Turns[str]:
    turns: Turns[str] = Turns(most_inspections=most_inspections)
    for number, (turn, key) in enumerate(waiting):
        turns.push(turn, key, f"{key}{number}")
    return turns


def take(turns: Turns[str], seconds: float | None = 0.0) -> str:
    """Takes what is next, and ends it."""
    taken = turns.pop()
    assert taken is not None
    turns.end(taken[0], seconds)
    return taken[1]


def test_predictions_go_before_inspections_that_came_first() -> None:
    turns = make((INSPECTION, "i"), (PREDICTION, "p"), (INSPECTION, "i"), (PREDICTION, "p"))
    assert [take(turns) for _ in range(len(turns))] == ["p1", "p3", "i0", "i2"]
    assert turns.pop() is None


@pytest.mark.parametrize("turn", list(Turn))
def test_keys_take_turns(turn: Turn) -> None:
    turns = make(*((turn, key) for key in "aaabac"))
    assert [take(turns)[0] for _ in range(len(turns))] == list("abcaaa")


def test_only_so_many_inspections_are_under_way() -> None:
    turns = make(*[(INSPECTION, "i")] * 3, most_inspections=2)
    assert turns.pop() == (INSPECTION, "i0")
    assert turns.pop() == (INSPECTION, "i1")
    assert turns.pop() is None
    turns.push(PREDICTION, "p", "p")
    assert turns.pop() == (PREDICTION, "p")
    turns.end(INSPECTION, None)  # its caller had given up
    assert turns.pop() == (INSPECTION, "i2")
    assert len(turns) == 0


@settings(max_examples=25)
@given(predictions=st.floats(0.005, 0.05), stages=st.floats(0.001, 0.1), streams=st.integers(1, 4))
def test_inspections_get_their_share_of_a_device_that_predictions_would_fill(
    predictions: float, stages: float, streams: int
) -> None:
    turns = make(*((INSPECTION, f"stream {number} ") for number in range(streams)))
    spent = dict.fromkeys(Turn, 0.0)
    for number in itertools.count():
        if spent[PREDICTION] > 20 * (stages + FIRST_STAGE_SECONDS) / SHARE:
            break
        turns.push(PREDICTION, "model", f"prediction {number}")
        taken = turns.pop()
        assert taken is not None
        seconds = {PREDICTION: predictions, INSPECTION: stages}[taken[0]]
        turns.end(taken[0], seconds)
        spent[taken[0]] += seconds
        if taken[0] is INSPECTION:
            turns.push(INSPECTION, taken[1], taken[1])  # its next stage
    assert spent[INSPECTION] / spent[PREDICTION] == pytest.approx(SHARE, rel=0.2)


def test_a_stage_that_ran_while_nobody_waited_is_free() -> None:
    turns = make((INSPECTION, "i"))
    assert take(turns, 100.0) == "i0"
    turns.push(INSPECTION, "i", "i")
    for item in ("p1", "p2"):
        turns.push(PREDICTION, "p", item)
    assert take(turns, 100.0 / SHARE) == "p1", "of which a stage like the last has its share now"
    assert [take(turns), take(turns)] == ["i", "p2"]
