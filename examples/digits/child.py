"""A command that runs beside the demo and never outlives it."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack, contextmanager
from queue import SimpleQueue
from threading import Thread
from typing import IO, TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from interruption import Interruption

PATIENCE = 10.0
"""How many seconds a command has to end after it was asked to."""


@final
class Child:
    """A command under way, and what it says."""

    def __init__(self, process: subprocess.Popen[str], lines: SimpleQueue[str | None]) -> None:
        self._process = process
        self._lines = lines

    def lines(self) -> Iterator[str]:
        """Yields what it says, line by line as it comes, without the line's end; ends when it does."""
        while (line := self._lines.get()) is not None:
            yield line

    def exit_code(self) -> int:
        """Waits for its end; returns its exit code."""
        return self._process.wait()


@contextmanager
def running(words: Sequence[str], interruption: Interruption) -> Iterator[Child]:
    """Starts a command; when the block ends, however it ends, the command does."""
    with ExitStack() as stack:
        with interruption.held():
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                process_group=0,  # Ctrl-C goes to the demo alone, which ends what it began in order
            )
            # The second is for the signal that comes just before the first holds it; there is no third.
            stack.callback(process.kill)
            stack.callback(_end, process, interruption)
        lines: SimpleQueue[str | None] = SimpleQueue()
        # A thread reads, so that the command never waits for a reader.
        Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
        yield Child(process, lines)


def _read(output: IO[str], lines: SimpleQueue[str | None]) -> None:
    with output:
        for line in output:
            lines.put(line.rstrip())
    lines.put(None)


def _end(process: subprocess.Popen[str], interruption: Interruption) -> None:
    with interruption.held():
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
