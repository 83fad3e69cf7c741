"""The signals that tell a server to end."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def stop_signals() -> list[signal.Signals]:
    """Returns SIGTERM, SIGINT, and SIGHUP, which a terminal that closes sends, unless that is ignored, as by nohup."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [signal.SIGTERM, signal.SIGINT, *([] if ignored else [signal.SIGHUP])]


@contextlib.contextmanager
def ended_at_once(last: Callable[[], None]) -> Iterator[None]:
    """Lets these signals end the process at once, with 0, until others handle them; `last` says so.

    The first process of a container would never notice them without a handler, and another would not end with 0.
    """

    def end(*_: object) -> None:
        last()
        os._exit(0)

    before = {number: signal.signal(number, end) for number in stop_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
