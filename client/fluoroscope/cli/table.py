"""Tables for people."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fluoroscope.calls import SiteStatistics

_WIDE = 10_000

STATISTICS = ("mean", "std", "var", "min", "max", "zeros", "NaN", "Inf")
"""The columns that `statistics_cells` fills."""


class _Console(Console):
    """A console that leaves a closed pipe to the command line's own end."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[str] = ()) -> None:
    """Prints a table; the columns named in `numbers` are aligned to the right.

    On a terminal long words are folded, and elsewhere lines are as long as they are: nothing is cut off.
    """
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=any(columns))
    for column in columns:
        right = column in numbers
        table.add_column(column, justify="right" if right else "left", no_wrap=right, overflow="fold")
    for row in rows:
        table.add_row(*row)
    width = None if sys.stdout.isatty() else _WIDE
    _Console(file=sys.stdout, width=width, markup=False, highlight=False, emoji=False).print(table)


def shape_cell(shape: Iterable[int]) -> str:
    """Returns a shape for people: `batch x 28 x 28`; a scalar is `()`."""
    return " x ".join("batch" if size < 0 else str(size) for size in shape) or "()"


def bytes_cell(count: int) -> str:
    """Returns a number of bytes for people: `3.0 KiB`."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def statistics_cells(statistics: SiteStatistics | None) -> tuple[str, ...]:
    """Returns what the columns of `STATISTICS` say."""
    if statistics is None:
        return ("",) * len(STATISTICS)
    numbers = (statistics.mean, statistics.std, statistics.var, statistics.min, statistics.max)
    return (
        *(f"{number:.4g}" for number in numbers),
        f"{statistics.zero_fraction:.1%}" if statistics.count else "",
        str(statistics.nan_count),
        str(statistics.inf_count),
    )
