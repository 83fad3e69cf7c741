"""The tree of errors, and the names that a message suggests."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluoroscope_server import errors
from fluoroscope_server.errors import MOST_QUOTED, FluoroscopeError, InvalidRequestError, counted, nearest, quoted


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = set(re.findall(r"\w+Error\b", str(errors.__doc__).partition("Every message")[0]))
    there = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert drawn == there


def test_an_error_has_a_message_a_field_and_a_reason() -> None:
    error = InvalidRequestError("what came", field="inputs[x]")
    assert (error.message, str(error), error.field, error.reason) == (
        "what came",
        "what came",
        "inputs[x]",
        "INVALID_REQUEST",
    )
    assert InvalidRequestError("", reason="WRONG_DTYPE").reason == "WRONG_DTYPE"
    assert InvalidRequestError.reason == "INVALID_REQUEST"
    assert isinstance(error, FluoroscopeError)


@pytest.mark.parametrize(
    ("name", "known", "text"),
    [
        ("a", [], "there are none"),
        ("Dnse_0", ["relu", "Dense_0"], "'Dense_0'"),
        ("zzz", ["a", "b"], "'a', 'b'"),
        ("zzz", list("abcdefg"), "'a', 'b', 'c', 'd', 'e' and 2 more"),
        ("x1", ["x1", "x2"], "'x1', 'x2'"),
    ],
)
def test_nearest(name: str, known: list[str], text: str) -> None:
    assert nearest(name, known) == text


@pytest.mark.parametrize(("number", "text"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (65_536, "65,536 rows")])
def test_counted(number: int, text: str) -> None:
    assert counted(number, "row") == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", "''"),
        ("relu\0", r"'relu\x00'"),
        ("it's", '"it\'s"'),
        ("a" * MOST_QUOTED, f"'{'a' * MOST_QUOTED}'"),
        ("a" * (MOST_QUOTED + 1), f"'{'a' * MOST_QUOTED}'..."),
        ("a" * (64 << 20), f"'{'a' * MOST_QUOTED}'..."),
    ],
    ids=["empty", "null", "quote", "longest", "longer", "64 MiB"],
)
def test_quoted(text: str, shown: str) -> None:
    assert quoted(text) == shown


PATHS = [
    f"transformer/layers_{layer}/attention/query/dot_general:{count}" for layer in range(80) for count in range(40)
]


@pytest.mark.parametrize(
    "name", ["transformer/layers_7/atention/query/dot_general:3", "q" * 1_000_000, "", "transformer/" * 20]
)
def test_nearest_of_thousands_takes_a_moment(name: str) -> None:
    start = time.perf_counter()
    nearest(name, PATHS)
    assert time.perf_counter() - start < 1


def test_nearest_of_thousands_finds_it() -> None:
    assert "'transformer/layers_7/attention/query/dot_general:3'" in nearest(
        "transformer/layers_7/atention/query/dot_general:3", PATHS
    )


@given(st.text(max_size=20), st.lists(st.text("ab/_0", min_size=1, max_size=8), min_size=1, max_size=80, unique=True))
def test_nearest_shows_a_few_that_are_known(name: str, known: list[str]) -> None:
    """Those that are close, or the first few and how many there are besides."""
    shown, _, rest = nearest(name, known).partition(" and ")
    names = [each.strip("'") for each in shown.split(", ")]
    assert 1 <= len(names) <= 5
    assert set(names) <= set(known)
    if rest:
        assert (names, rest) == (known[:5], f"{len(known) - 5} more")
