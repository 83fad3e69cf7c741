"""How the demo looks: headings, prose, commands, tables and pictures, in a terminal or without one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from contextlib import AbstractContextManager

    import numpy as np
    from rich.console import RenderableType

WIDTH = 100
"""The most columns that anything takes."""

INDENT = 2
"""How far everything below a heading is indented."""

SHADES = " ░▒▓█"
"""From paper to ink."""

ASCII_SHADES = " .+*#"
"""The same where there are no block characters."""

BAR = 30
"""How many columns a bar of 100 % takes."""


class Page:
    """Prints the demo from top to bottom."""

    def __init__(self) -> None:
        """Prints on standard output, in colour if that is a terminal."""
        console = Console(highlight=False, markup=False, emoji=False)
        # Where nobody says how wide the page is (a pipe, a log), rich takes 80 columns, and tables would be folded.
        known = console.is_terminal or "COLUMNS" in os.environ
        console.width = min(console.width, WIDTH) if known else WIDTH
        self._console = console
        self._headings = 0
        self._plain = not console.encoding.lower().startswith("utf")

    def heading(self, text: str) -> None:
        """Prints a numbered heading."""
        self._headings += 1
        self._console.print()
        self._console.print(Text(f"{self._headings}. {text}", style="bold cyan"))

    def say(self, text: str) -> None:
        """Prints prose, folded to the width of the page."""
        self._print(Text(" ".join(text.split())))

    def quote(self, line: str) -> None:
        """Prints a line that another program said."""
        self._print(Text(line, style="dim"), indent=2 * INDENT)

    def command(self, *lines: str) -> None:
        """Prints commands that the reader could type. They are never folded, so that they can be copied."""
        self._console.print()
        for line in lines:
            self._console.print(Text(" " * 2 * INDENT + line, style="green"), soft_wrap=True)
        self._console.print()

    def space(self) -> None:
        """Prints an empty line."""
        self._console.print()

    def table(
        self, columns: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[str] = ()
    ) -> None:
        """Prints a table; the columns named in `numbers` are aligned to the right."""
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for column in columns:
            table.add_column(column, justify="right" if column in numbers else "left")
        for row in rows:
            table.add_row(*row)
        self._print(Padding(table, (1, 0)), indent=2 * INDENT)

    def row(self, cells: Sequence[str], widths: Sequence[int]) -> None:
        """Prints one row of a table that grows as its rows come; a negative width aligns to the right."""
        words = (cell.rjust(-width) if width < 0 else cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        self._print(Text("  ".join(words).rstrip()), indent=2 * INDENT)

    def picture(self, image: np.ndarray, beside: Sequence[str]) -> None:
        """Prints an image of pixels from 0 to 1, `(height, width)`, with a text at its side."""
        shades = ASCII_SHADES if self._plain else SHADES
        rows = ["".join(shades[round(float(pixel) * (len(shades) - 1))] * 2 for pixel in line) for line in image]
        height = max(len(rows), len(beside))
        pad = (height - len(rows)) // 2
        blank = " " * len(rows[0])
        rows = [*[blank] * pad, *rows, *[blank] * (height - len(rows) - pad)]
        texts = [*beside, *[""] * (height - len(beside))]
        grid = Table.grid(padding=(0, 4, 0, 0))
        grid.add_row(Group(*map(Text, rows)), Group(*map(Text, texts)))
        self._print(Padding(grid, (1, 0)), indent=2 * INDENT)

    def bar(self, share: float) -> str:
        """Returns a bar for a share from 0 to 1."""
        length = round(share * BAR)
        return ("#" if self._plain else "█") * length

    def busy(self, text: str) -> AbstractContextManager[object]:
        """Shows that work is under way while the block lasts; where there is no terminal, a line says so once."""
        if not self._console.is_terminal or self._console.is_dumb_terminal:
            self.quote(text)
        return self._console.status(Text(f"{' ' * INDENT}{text}", style="dim"), spinner="line")

    def _print(self, what: RenderableType, *, indent: int = INDENT) -> None:
        self._console.print(Padding(what, (0, 0, 0, indent), expand=False))
