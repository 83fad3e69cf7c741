"""The progress bar of long streams."""

from __future__ import annotations

import sys
from time import monotonic
from typing import TYPE_CHECKING, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as RichProgress

if TYPE_CHECKING:
    from types import TracebackType

    from fluoroscope.calls import Progress


class Bar:
    """Shows on standard error how far a stream has come, once it has taken more than a second.

    It shows nothing where standard error is no terminal. It also keeps the last progress, which knows
    what header and trailer said.
    """

    def __init__(self, *, patience: float = 1.0, file: TextIO | None = None) -> None:
        """Takes the seconds before it shows anything, and where; None means standard error."""
        self.last: Progress | None = None
        """What had come when the stream was last heard of."""
        self._since = monotonic()
        self._patience = patience
        self._file = sys.stderr if file is None else file
        self._terminal = self._file.isatty()
        self._bar: RichProgress | None = None

    def __call__(self, progress: Progress) -> None:
        """Takes note of how far the stream has come."""
        self.last = progress
        if self._bar is None and self._terminal and monotonic() - self._since > self._patience:
            self._bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                DownloadColumn(binary_units=True),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
                console=Console(file=self._file),
                transient=True,
            )
            self._bar.add_task("", total=None)
            self._bar.start()
        if self._bar is not None:
            self._bar.update(
                self._bar.task_ids[0],
                description=f"{progress.results} of {progress.total_results} results",
                completed=progress.byte_count,
                total=progress.total_bytes,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
