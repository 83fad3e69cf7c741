"""The round robin: keys take turns, each gives its oldest."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from fluoroscope_server.serving.round_robin import RoundRobin


def test_each_key_gives_its_oldest_in_turn() -> None:
    robin: RoundRobin[str] = RoundRobin()
    for item in ("a1", "a2", "a3", "b1", "c1", "c2"):
        robin.push(item[0], item)
    assert robin.pop() == "a1"
    robin.push("d", "d1")  # behind all keys that wait
    assert robin.peek() == "b1"
    assert [robin.pop() for _ in range(len(robin))] == ["b1", "c1", "a2", "d1", "c2", "a3"]
    assert not robin


def test_what_is_removed_has_no_turn() -> None:
    robin: RoundRobin[str] = RoundRobin()
    for item in ("a1", "a2", "b1", "c1"):
        robin.push(item[0], item)
    assert robin.remove("a", "a1")
    assert robin.remove("b", "b1")
    assert not robin.remove("b", "b1")
    assert not robin.remove("a", "c1")
    assert [robin.pop() for _ in range(len(robin))] == ["a2", "c1"]


@given(st.lists(st.one_of(st.sampled_from("abcd"), st.sampled_from(["pop", "remove"])), max_size=60), st.randoms())
def test_nobody_waits_for_more_than_one_of_each_other_key(steps: list[str], random: object) -> None:
    """Whatever comes and gives up: while an item is the oldest of its key, any other key is served once at most."""
    robin: RoundRobin[int] = RoundRobin()
    lanes: dict[str, list[int]] = {}
    served_since: dict[str, Counter[str]] = {}  # by key: who was served since its oldest became that
    for number, step in enumerate(steps):
        waiting = [(key, item) for key, items in lanes.items() for item in items]
        if step in "abcd":
            robin.push(step, number)
            lanes.setdefault(step, []).append(number)
            served_since.setdefault(step, Counter())
        elif waiting and step == "remove":
            key, item = random.choice(waiting)  # type: ignore[attr-defined]  # hypothesis has its own Random
            assert robin.remove(key, item)
            lanes[key].remove(item)
            _forget(key, lanes, served_since)
        elif waiting:
            head = robin.peek()
            item = robin.pop()
            assert item == head
            (key,) = [key for key, items in lanes.items() if item in items]
            assert lanes[key].pop(0) == item, "the oldest of its key"
            for other, seen in served_since.items():
                if other != key:
                    seen[key] += 1
                    assert seen[key] == 1, f"{key} was served twice while {other} waited"
            served_since[key] = Counter()
            _forget(key, lanes, served_since)
        assert len(robin) == sum(map(len, lanes.values()))


def _forget(key: str, lanes: dict[str, list[int]], served_since: dict[str, Counter[str]]) -> None:
    if not lanes[key]:
        del lanes[key], served_since[key]
