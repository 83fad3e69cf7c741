"""Slices as words of the command line: `0:0:1`."""

from __future__ import annotations

import click

from fluoroscope.calls import Slice

_LIMIT = 2**62


def read_slices(_: click.Context, __: click.Parameter, words: tuple[str, ...]) -> tuple[Slice, ...]:
    """Returns the slices that words are."""
    return tuple(map(read_slice, words))


def read_slice(word: str) -> Slice:
    """Returns the slice that a word is.

    Raises:
        click.BadParameter: It is none.
    """
    try:
        axis, *parts = word.split(":")
        numbers = [int(part) if part else None for part in parts]
        fits = len(numbers) in {2, 3} and all(abs(number or 0) < _LIMIT for number in numbers)
        if fits and abs(int(axis)) < 1 << 31:
            return Slice(int(axis), *numbers)
    except ValueError:
        pass
    raise click.BadParameter(f"{word!r} is not AXIS:START:STOP or AXIS:START:STOP:STEP, such as 0:0:1.")
