"""What one setting may be, however it is written."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluoroscope_server.errors import SettingsError
from fluoroscope_server.setting import MIB, setting, settings_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Settings of every type."""

    plain: str = "x"
    """A text."""

    count: int = setting(3, least=1, most=9)
    """A number
    of things."""

    room_bytes: int = 2 * MIB
    """How much."""

    wait_seconds: float = setting(0.5, least=0)
    """How long."""

    quick: bool = False
    """Whether."""

    file: Path | None = setting(None, metavar="FILE")
    """Where."""

    level: str = setting("low", choices=("low", "high"))
    """How high."""

    words: tuple[str, ...] = ()
    """Many."""


ALL = {each.field: each for each in settings_of(Holder)}


def test_what_is_known_of_each() -> None:
    assert [(each.name, each.flag, each.variable) for each in ALL.values()][:4] == [
        ("plain", "--plain", "FLUOROSCOPE_PLAIN"),
        ("count", "--count", "FLUOROSCOPE_COUNT"),
        ("room-mib", "--room-mib", "FLUOROSCOPE_ROOM_MIB"),
        ("wait", "--wait", "FLUOROSCOPE_WAIT"),
    ]
    assert ALL["count"].about == "A number of things.  [default: 3; 1 to 9]"
    assert ALL["room_bytes"].about == "How much.  [default: 2]"
    assert [each.stands_for for each in ALL.values()] == [
        "TEXT",
        "NUMBER",
        "MIB",
        "SECONDS",
        "TEXT",
        "FILE",
        "low|high",
        "TEXT",
    ]


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("plain", "3", "3"),
        ("count", "9", 9),
        ("room_bytes", "5", 5 * MIB),
        ("wait_seconds", "2", 2.0),
        ("quick", "Yes", True),
        ("quick", "0", False),
        ("file", "/a b", Path("/a b")),
        ("file", "~/x", Path.home() / "x"),
        ("level", "high", "high"),
    ],
)
def test_a_text_is_read(field: str, text: str, value: Any) -> None:
    found = ALL[field].read(text, origin="FLUOROSCOPE_X")
    assert (found, type(found)) == (value, type(value))
    shown = tomllib.loads(f"it = {ALL[field].show(found)}")["it"]
    assert ALL[field].take(shown, origin="a file") == value, "what is shown can be read back"


@pytest.mark.parametrize(
    ("field", "came", "message"),
    [
        ("count", "10", "--count '10' is not a whole number, 1 to 9"),
        ("count", "1.5", "--count '1.5' is not a whole number, 1 to 9"),
        ("count", 1.0, "--count 1.0 is not a whole number, 1 to 9"),
        ("count", True, "--count True is not a whole number"),
        ("count", "0", "--count '0' is not a whole number, 1 to 9"),
        ("room_bytes", "4k", "--count '4k' is not a whole number of MiB"),
        ("wait_seconds", "inf", "--count 'inf' is not a number of seconds, 0 or more"),
        ("wait_seconds", "-1", "--count '-1' is not a number of seconds"),
        pytest.param("wait_seconds", 10**400, "--count 10+ is not a number of seconds, 0 or more", id="huge"),
        ("quick", "perhaps", "--count 'perhaps' is not true or false"),
        ("quick", 1, "--count 1 is not true or false"),
        ("level", "medium", "--count 'medium' is not one of low, high"),
        ("plain", 3, "--count 3 is not a text"),
        ("file", ["a"], r"--count \['a'\] is not a text"),
        ("file", "", "--count is empty: name a path, or leave it out"),
        ("words", [1], r"--count is \[1\]; expected a list of texts"),
    ],
)
def test_what_is_refused(field: str, came: Any, message: str) -> None:
    read = ALL[field].read if isinstance(came, str) else ALL[field].take
    with pytest.raises(SettingsError, match=f"^{message}"):
        read(came, origin="--count")


def test_a_file_may_say_one_or_many_and_whole_numbers_for_seconds() -> None:
    assert ALL["words"].take("a b", origin="f") == ("a b",)
    assert ALL["words"].take(["a", "b"], origin="f") == ("a", "b")
    assert ALL["wait_seconds"].take(3, origin="f") == 3.0


@given(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.lists(st.text(st.characters(codec="ascii"))))
def test_what_is_shown_says_the_same(number: int, seconds: float, words: list[str]) -> None:
    for field, value in (("room_bytes", number * MIB), ("wait_seconds", seconds), ("words", tuple(words))):
        found = tomllib.loads(f"it = {ALL[field].show(value)}")["it"]
        if field == "words":
            assert tuple(found) == value
        else:
            assert found * ALL[field].unit == value
