"""The progress bars of long streams, and of many of them."""

from __future__ import annotations

import sys
from collections import Counter
from time import monotonic
from typing import TYPE_CHECKING, Any, Self, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as RichProgress

if TYPE_CHECKING:
    from types import TracebackType

    from rich.progress import ProgressColumn

    from fluoroscope.calls import Inspection, Progress


class _Shown:
    """Shows on standard error how far something has come, once it has taken more than a second.

    It shows nothing where standard error is no terminal.
    """

    def __init__(self, *, patience: float = 1.0, file: TextIO | None = None) -> None:
        """Takes the seconds before it shows anything, and where; None means standard error."""
        self._since = monotonic()
        self._patience = patience
        self._file = sys.stderr if file is None else file
        self._terminal = self._file is not None and self._file.isatty()  # none where standard error is closed
        self._bar: RichProgress | None = None

    def _columns(self) -> tuple[ProgressColumn, ...]:
        raise NotImplementedError

    def _show(self, description: str, completed: int, total: int) -> None:
        if self._bar is None and self._terminal and monotonic() - self._since > self._patience:
            self._bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                *self._columns(),
                TimeRemainingColumn(),
                console=Console(file=self._file),
                transient=True,
            )
            self._bar.add_task("", total=None)
            self._bar.start()
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description=description, completed=completed, total=total)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


class Bar(_Shown):
    """Shows how far a stream has come, and keeps the last progress, which knows what header and trailer said."""

    last: Progress | None = None
    """What had come when the stream was last heard of."""

    def __call__(self, progress: Progress) -> None:
        """Takes note of how far the stream has come."""
        self.last = progress
        what = f"{progress.results} of {progress.total_results} results"
        self._show(what, progress.byte_count, progress.total_bytes)

    @property
    def about(self) -> dict[str, Any]:
        """Returns what header and trailer said of the answer, for programs."""
        last = self.last
        return {} if last is None else {
            "model": last.model,
            "version": last.version,
            "rows": last.rows,
            "program": last.program,
            "stages": last.stages,
        }  # fmt: skip

    def _columns(self) -> tuple[ProgressColumn, ...]:
        return DownloadColumn(binary_units=True), TransferSpeedColumn()


class RowBar(_Shown):
    """Shows how many examples of a data set have been sent, pass by pass, and keeps what was said of the answers."""

    def __init__(self, rows: int, *, patience: float = 1.0, file: TextIO | None = None) -> None:
        """Takes how many examples there are, the seconds before it shows anything, and where."""
        super().__init__(patience=patience, file=file)
        self._rows = rows
        self._seconds: Counter[str] = Counter()
        self.passes = 0
        """How many passes have begun."""
        self.last: Inspection | None = None
        """The last answer."""

    def __call__(self, inspection: Inspection, *, done: int, passes: int) -> None:
        """Takes note of an answer, the examples that are done in this pass, and which pass it is."""
        self.last, self.passes = inspection, passes
        for stage, seconds in inspection.stages.items():
            self._seconds[stage] += seconds  # type: ignore[assignment]  # counts seconds as well
        self._show("examples" if passes == 1 else f"examples, pass {passes}", done, self._rows)

    @property
    def about(self) -> dict[str, Any]:
        """Returns what was said of the answers, for programs: the last program, and the seconds of all together."""
        last = self.last
        return {} if last is None else {
            "model": last.model,
            "version": last.version,
            "rows": self._rows,
            "passes": self.passes,
            "program": last.program,
            "stages": dict(self._seconds),
        }  # fmt: skip

    def _columns(self) -> tuple[ProgressColumn, ...]:
        return (MofNCompleteColumn(),)
