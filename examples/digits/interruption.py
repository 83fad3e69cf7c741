"""Ctrl-C and its kin, made to arrive only where they can be answered."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType, TracebackType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What ends the demo: Ctrl-C, `kill`, and a terminal that was closed."""


class InterruptedBySignal(BaseException):
    """The demo was asked to end. Not an `Exception`: nobody but the end of the demo may catch it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number
        """What shells expect: 130 after Ctrl-C."""


class Interruption:
    """Turns the first signal into `InterruptedBySignal`, and ignores those that follow: the end is under way."""

    def __init__(self) -> None:
        self._seen: int | None = None
        self._raised = False
        self._held = 0

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keeps a signal waiting until the block is done: a process is started and noted, or ended, as one."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            self._raise_if_due()

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if self._seen is None:
            self._seen = number
        self._raise_if_due()

    def _raise_if_due(self) -> None:
        if self._seen is not None and not self._raised and not self._held:
            self._raised = True
            raise InterruptedBySignal(self._seen)

    def __enter__(self) -> Self:
        # Under nohup the closed terminal is ignored; that stays so.
        numbers = [each for each in SIGNALS if each != signal.SIGHUP or signal.getsignal(each) != signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._on_signal) for number in numbers}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, action in self._before.items():
            signal.signal(number, action)
