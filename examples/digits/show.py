"""How the demo looks: headings, prose, commands, tables and pictures, in a terminal or without one."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import numpy as np
    from rich.console import RenderableType

    from interruption import Interruption

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

    def __init__(self, interruption: Interruption) -> None:
        """Prints on standard output, in colour if that is a terminal; no line of it is interrupted."""
        console = Console(highlight=False, markup=False, emoji=False)
        # Where nobody says how wide the page is (a pipe, a log), rich takes 80 columns, and tables would be folded.
        known = console.is_terminal or "COLUMNS" in os.environ
        console.width = min(console.width, WIDTH) if known else WIDTH
        self._console = console
        self._interruption = interruption
        self._headings = 0
        self._plain = not console.encoding.lower().startswith("utf")

    def heading(self, text: str) -> None:
        """Prints a numbered heading."""
        self._headings += 1
        self.space()
        self._line(Text(f"{self._headings}. {text}", style="bold cyan"))

    def say(self, text: str) -> None:
        """Prints prose, folded to the width of the page."""
        self._print(Text(" ".join(text.split())))

    def quoted(self, lines: Iterable[str]) -> Iterator[str]:
        """Prints the lines that another program says as they come, and yields them."""
        for line in lines:
            self.quote(line)
            yield line

    def quote(self, line: str) -> None:
        """Prints a line that another program said."""
        self._print(Text(line, style="dim"), indent=2 * INDENT)

    def command(self, *lines: str) -> None:
        """Prints commands that the reader could type. They are never folded, so that they can be copied."""
        self.space()
        for line in lines:
            self._line(Text(" " * 2 * INDENT + line, style="green"))
        self.space()

    def space(self) -> None:
        """Prints an empty line."""
        self._line(Text())

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[str] = ()) -> None:
        """Prints a table; the columns named in `numbers` are aligned to the right."""
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for column in columns:
            table.add_column(column, justify="right" if column in numbers else "left")
        for row in rows:
            table.add_row(*row)
        self.space()
        self._print(table, indent=2 * INDENT)
        self.space()

    def row(self, cells: Sequence[str], widths: Sequence[int]) -> None:
        """Prints one row of a table that grows as its rows come; a negative width aligns to the right."""
        words = (
            cell.rjust(-width) if width < 0 else cell.ljust(width) for cell, width in zip(cells, widths, strict=True)
        )
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
        self.space()
        self._print(grid, indent=2 * INDENT)
        self.space()

    def bar(self, share: float) -> str:
        """Returns a bar for a share from 0 to 1."""
        length = round(share * BAR)
        return ("#" if self._plain else "█") * length

    @contextmanager
    def busy(self, text: str) -> Iterator[Callable[[str], None]]:
        """Shows that work is under way while the block lasts; yields what says how far it has come.

        Where there is no terminal to show it on, only the first text is printed, once.
        """
        if not self._console.is_terminal or self._console.is_dumb_terminal:
            self.quote(text)
        status = self._console.status(_status(text), spinner="line")
        try:
            with self._interruption.held():
                status.start()
            yield lambda text: status.update(_status(text))
        finally:
            with self._interruption.held():
                status.stop()

    def _print(self, what: RenderableType, *, indent: int = INDENT) -> None:
        options = self._console.options.update(width=self._console.width - indent)
        for segments in self._console.render_lines(what, options, pad=False):
            line = Text(" " * indent).append_tokens((each.text, each.style) for each in segments)
            line.rstrip()
            self._line(line)

    def _line(self, line: Text) -> None:
        # A console that is interrupted while it prints prints nothing any more, and leaves the cursor hidden.
        with self._interruption.held():
            self._console.print(line, soft_wrap=True)


def _status(text: str) -> Text:
    return Text(" " * INDENT + text, style="dim")
