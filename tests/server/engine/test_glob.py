"""Globs: what they mean, and that no stranger's glob costs more than a moment."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluoroscope_server.engine.glob import (
    MOST_GLOBS,
    MOST_LETTERS,
    MOST_WILDCARDS,
    check_globs,
    compile_glob,
    is_glob,
)
from fluoroscope_server.errors import LimitExceededError


@pytest.mark.parametrize(
    ("glob", "path", "matches"),
    [
        ("Dense_0", "Dense_0", True),
        ("Dense_0", "Dense_01", False),
        ("Dense_*", "Dense_0", True),
        ("Dense_*", "Dense_", True),
        ("Dense_*", "Dense_0/add:0", False),
        ("Dense_?", "Dense_0", True),
        ("Dense_?", "Dense_", False),
        ("Dense_?", "Dense_10", False),
        ("a?b", "a/b", False),
        ("*", "relu:0", True),
        ("*", "Dense_0/add:0", False),
        ("*/add:0", "Dense_0/add:0", True),
        ("**", "Dense_0", True),
        ("**", "a/b/c", True),
        ("**/add:0", "add:0", True),
        ("**/add:0", "a/b/add:0", True),
        ("**/add:0", "a/b/madd:0", False),
        ("a/**", "a/b/c", True),
        ("a/**", "a", False),
        ("a/**/c", "a/c", True),
        ("a/**/c", "a/b/b/c", True),
        ("a/**/c", "ab/c", False),
        ("a/**/b/**/c", "a/b/c", True),
        ("a/**/b/**/c", "a/c", False),
        ("**/**", "a", True),
        ("a**b", "axyb", True),  # within a segment, two stars are as one
        ("a**b", "a/b", False),
        ("layers[0]/*", "layers[0]/mlp", True),  # brackets are letters
        ("layers[0]/*", "layers0/mlp", False),
        ("a.c", "abc", False),
        ("*a*a*", "aa", True),
        ("*a*a*", "a", False),
        ("**/x*y/z", "xay/xy/z", True),
        ("*", "a\nb", True),
    ],
)
def test_meaning(glob: str, path: str, *, matches: bool) -> None:
    assert bool(compile_glob(glob)(path)) is matches


def plain(glob: str) -> re.Pattern[str]:
    """Returns what a glob means as an expression that is plainly right, and may backtrack without end."""
    segments = glob.split("/")
    pattern = ""
    for index, segment in enumerate(segments):
        last = index == len(segments) - 1
        if segment == "**":
            pattern += "[^/]*(?:/[^/]*)*" if last else "(?:[^/]*/)*"
        else:
            pattern += re.escape(segment).replace(r"\*", "[^/]*").replace(r"\?", "[^/]") + ("" if last else "/")
    return re.compile(pattern)


paths = st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=5).map("/".join)
globs = st.lists(
    st.one_of(st.just("**"), st.text("abc?*", min_size=1, max_size=4)),
    min_size=1,
    max_size=5,
).map("/".join)


@settings(deadline=None, max_examples=600)
@given(globs, paths)
def test_agrees_with_the_plain_expression(glob: str, path: str) -> None:
    assert bool(compile_glob(glob)(path)) == bool(plain(glob).fullmatch(path))


@pytest.mark.parametrize(
    "glob",
    [
        "*a" * 250 + "b",
        "?*" * 250,
        "**/a/" * 100 + "b",
        "**/*a*a*a*a*a*a*b/" * 20 + "c",
        "/".join(["*a*a*a*"] * 60),
        "*" * 500,
        "**/" * 160,
        "a" * 500 + "*",
    ],
)
def test_hostile_globs_are_quick(glob: str) -> None:
    hostile = ["a" * 400, "a/" * 200 + "a", "/".join(["aaaa"] * 60), "aaaa" * 20 + "/" + "a/" * 60]
    start = time.perf_counter()
    matches = compile_glob(glob)
    for path in hostile:
        matches(path)
    assert time.perf_counter() - start < 2  # a backtracking expression would take longer than the universe has


def test_is_glob() -> None:
    assert is_glob("a*")
    assert is_glob("a?")
    assert not is_glob("layers[0]/mlp:0")


def test_limits() -> None:
    check_globs([f"a{index}*" for index in range(MOST_GLOBS)], field="globs")
    check_globs([f"a{index}" for index in range(5 * MOST_GLOBS)], field="globs")  # names do not count
    check_globs(["a*"] * (5 * MOST_GLOBS), field="globs")  # nor does the same again
    check_globs(["a" * (MOST_LETTERS - 1) + "*"], field="globs")
    check_globs([f"transformer/layers_{index}/attention/**/mul:*" for index in range(200)], field="globs")


@pytest.mark.parametrize(
    ("globs", "came"),
    [
        ([f"a{index}*" for index in range(MOST_GLOBS + 1)], "501 globs of 2,395 characters together, 501 of them"),
        (["a" * MOST_LETTERS + "*"], "1 globs of 10,001 characters together, 1 of them"),
        (["?*" * (MOST_WILDCARDS // 2), "?"], "2 globs of 2,001 characters together, 2,001 of them"),
    ],
)
def test_what_would_take_long_to_compile_is_refused(globs: list[str], came: str) -> None:
    limit = "are more than the limit of 500 globs, 10,000 characters and 2,000 wildcards"
    with pytest.raises(LimitExceededError, match=f"{came} wildcards, {limit}: use fewer, or name sites") as caught:
        check_globs(globs, field="globs")
    assert (caught.value.field, caught.value.reason) == ("globs", "TOO_MANY_GLOBS")
