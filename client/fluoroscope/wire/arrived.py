"""What had come of a stream when it ended, and what had not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_SHOWN: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """The results that a stream announced, as far as they had come.

    Each is named by its site or output, as often as it has results, in the order in which they come.
    """

    complete: tuple[str, ...]
    """Those that had come whole. Nothing has confirmed their checksums."""

    partial: str | None
    """The one of which some bytes had come. None if there was none."""

    partial_bytes: int
    """How many of its bytes had come, from the first on."""

    partial_size: int
    """How many bytes it has."""

    missing: tuple[str, ...]
    """Those of which nothing had come."""

    where: str
    """The first that had not come whole, for people: `site 'Dense_0' (result 3)`. Empty if all had, or no header."""

    announced: bool = True
    """Whether the header had come; without it nobody knows what is missing."""

    def __str__(self) -> str:
        """Returns it for the end of a message."""
        if not self.announced:
            return "nothing had come, not even the header"
        whole, rest = len(self.complete), [*filter(None, [self.partial]), *self.missing]
        total = whole + len(rest)
        if not rest:
            return f"all {total} results had come, but not the checksums that confirm them"
        part = f"{self.partial_bytes} of its {self.partial_size} bytes had come; " if self.partial is not None else ""
        names = ", ".join(map(repr, rest[:_SHOWN])) + (f" and {len(rest) - _SHOWN} more" if rest[_SHOWN:] else "")
        return f"{whole} of {total} results had come whole; {part}missing from {self.where} on: {names}"
