"""Globs over site paths, matched in time linear in the path: a glob comes from a stranger."""

from __future__ import annotations

import functools
import itertools
import re
from typing import TYPE_CHECKING

from fluoroscope_server.errors import LimitExceededError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_STARS = re.compile(r"\*+")
_ANY_SEGMENTS = "(?:[^/]*/)*"


MOST_NAMES = 20_000
"""How many names and globs of sites one request may have, each as often as it comes: as many as there can be results
of them."""

MOST_GLOBS = 500
"""How many globs one request may have. Names without wildcards are looked up, and do not count."""

MOST_LETTERS = 10_000
"""How many characters these may have together: compiling them takes a microsecond for each."""

MOST_WILDCARDS = 2_000
"""How many of these characters may be `*` or `?`: compiling such a one takes up to 25 microseconds."""


def check_names(count: int, *, field: str) -> None:
    """Raises LimitExceededError if these are too many names and globs. Ask before any of them is looked at."""
    if count > MOST_NAMES:
        raise LimitExceededError(
            f"the request has {count:,} names and globs of sites, and the limit is {MOST_NAMES:,}: name each once, or "
            "use a glob for many",
            field=field,
            reason="TOO_MANY_GLOBS",
        )


def check_globs(globs: Iterable[str], *, field: str) -> None:
    """Raises LimitExceededError if compiling these globs would take long."""
    found = [glob for glob in set(globs) if is_glob(glob)]
    letters = sum(map(len, found))
    wildcards = sum(glob.count("*") + glob.count("?") for glob in found)
    if len(found) > MOST_GLOBS or letters > MOST_LETTERS or wildcards > MOST_WILDCARDS:
        raise LimitExceededError(
            f"{len(found):,} globs of {letters:,} characters together, {wildcards:,} of them wildcards, are more than "
            f"the limit of {MOST_GLOBS:,} globs, {MOST_LETTERS:,} characters and {MOST_WILDCARDS:,} wildcards: "
            "use fewer, or name sites without wildcards",
            field=field,
            reason="TOO_MANY_GLOBS",
        )


def is_glob(text: str) -> bool:
    """Returns whether a text has a wildcard: `*` or `?`. Brackets are part of a path, and literal."""
    return "*" in text or "?" in text


@functools.lru_cache(maxsize=256)  # the longest take 250 kB each
def compile_glob(glob: str) -> Callable[[str], object]:
    """Returns a test of paths.

    `*` matches within a path segment, `?` one character of it, and `**` as a whole segment matches any
    number of segments (behind the last slash: at least one).

    Each part between two wildcards is tried at its first possible place only. That loses no match, as a part
    has a fixed length (or number of segments), and it keeps a hostile glob from backtracking without end.
    """
    groups = [list(group) for deep, group in itertools.groupby(glob.split("/"), "**".__eq__) if not deep]
    starts_deep, ends_deep = glob.split("/", maxsplit=1)[0] == "**", glob.rsplit("/", maxsplit=1)[-1] == "**"
    pattern = ""
    for index, group in enumerate(groups):
        first, last = index == 0 and not starts_deep, index == len(groups) - 1 and not ends_deep
        body = _segments(group) + ("" if last else "/")
        pattern += body if first else _ANY_SEGMENTS + body if last else f"(?>{_ANY_SEGMENTS}?{body})"
    return re.compile(pattern + (".+" if ends_deep else ""), re.DOTALL).fullmatch


def _segments(segments: Sequence[str]) -> str:
    return "/".join(_segment(segment) for segment in segments)


def _segment(segment: str) -> str:
    first, *parts = [_literal(part) for part in _STARS.split(segment)]
    if not parts:
        return first
    middle = "".join(f"(?>[^/]*?{part})" for part in parts[:-1])
    return f"{first}{middle}[^/]*{parts[-1]}"


def _literal(text: str) -> str:
    return "[^/]".join(re.escape(part) for part in text.split("?"))
