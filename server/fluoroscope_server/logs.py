"""The log: one line for each event, for people or as JSON."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

PACKAGE: Final = "fluoroscope_server"
"""The logger above all of ours."""

NAME: Final = "fluoroscope-server"
"""What begins each line for people."""


def write_logs(form: str, level: str) -> None:
    """Writes the log to standard error from now on; once more takes back what was said before.

    Args:
        form: `text` or `json`.
        level: the least that is written of our own events, `debug`, `info`, `warning` or `error`; of what libraries
            say, warnings are.
    """
    root = logging.getLogger()
    for handler in [each for each in root.handlers if isinstance(each, _StandardError)]:
        root.removeHandler(handler)
    writer = _StandardError()
    writer.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root.addHandler(writer)
    logging.getLogger(PACKAGE).setLevel(level.upper())
    logging.captureWarnings(capture=True)  # whoever reads JSON reads nothing else


def fields(**values: Any) -> dict[str, Any]:
    """Returns the `extra` of a record that says more than its message: `log.info("call", extra=fields(code="OK"))`."""
    return {"fields": values}


HELD: Final = 1000
"""How many lines may wait to be written."""

STANDARD_ERROR: Final = 2
"""Its number, for who must not wait until another has written there."""

LAST_SECONDS: Final = 1.0
"""How long the end waits for the last of them to be read."""


class TextFormatter(logging.Formatter):
    """`fluoroscope-server: message key=value`; what is worse than information says so."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns a line, and below it the traceback if there is one."""
        level = f"{record.levelname.lower()}: " if record.levelno > logging.INFO else ""
        more = "".join(f" {key}={_word(value)}" for key, value in _fields(record).items())
        line = f"{NAME}: {level}{_printable(record.getMessage())}{more}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """An object on a line: time, level, message, and what the event says of itself."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns a line of JSON, ASCII alone."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        event = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            event["exception"] = self.formatException(record.exc_info)
        return json.dumps(event, default=str)


class Budget:
    """How many lines may be written in a second, so that a storm of failures is not one of lines as well."""

    def __init__(self, lines: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Takes how many, and a clock that never goes back."""
        self._lines = lines
        self._clock = clock
        self._second = clock()
        self._left = lines
        self._left_out = 0

    def take(self) -> int | None:
        """Returns how many lines were left out before this one; None if this one is left out, too."""
        now = self._clock()
        if now - self._second >= 1:
            self._second, self._left = now, self._lines
        if not self._left:
            self._left_out += 1
            return None
        self._left -= 1
        left_out, self._left_out = self._left_out, 0
        return left_out


@contextlib.contextmanager
def written_behind() -> Iterator[None]:
    """Lets nobody wait for whoever reads the log: as long as this lasts, lines are written on a thread of their own.

    Where they are not read in time, as many as `HELD` wait, and what comes then is lost; the log says how much.
    """
    writers = [each for each in logging.getLogger().handlers if isinstance(each, _StandardError)]
    for each in writers:
        each.begin()
    try:
        yield
    finally:
        for each in writers:
            each.end()


def write_at_once(message: str) -> None:
    """Writes a line before those that wait: a handler of signals may do this, whatever it has interrupted."""
    writers = [each for each in logging.getLogger().handlers if isinstance(each, _StandardError)]
    if writers and not logging.getLogger(PACKAGE).isEnabledFor(logging.INFO):
        return
    formatter = (writers[0].formatter if writers else None) or TextFormatter()
    record = logging.LogRecord(PACKAGE, logging.INFO, __file__, 0, message, (), None)
    with contextlib.suppress(OSError):  # it is closed: there is nobody to tell
        os.write(STANDARD_ERROR, f"{formatter.format(record)}\n".encode())


class _StandardError(logging.StreamHandler[Any]):
    """Writes to what is standard error when it is written to."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self._lines: queue.Queue[str | None] | None = None
        self._thread: threading.Thread | None = None
        self._lost = 0

    @property
    def stream(self) -> Any:
        return sys.stderr

    def emit(self, record: logging.LogRecord) -> None:
        if self._lines is None:
            super().emit(record)
            return
        try:
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            self._lost += 1

    def begin(self) -> None:
        """Writes on a thread from now on."""
        self._lines = queue.Queue(HELD)
        self._thread = threading.Thread(target=self._write, args=(self._lines,), name="log", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Writes what waits, if it is read within a second; else the rest is lost, and so is what comes."""
        lines, thread = self._lines, self._thread
        if lines is None or thread is None:
            return
        with contextlib.suppress(queue.Full):
            lines.put(None, timeout=LAST_SECONDS)
        thread.join(LAST_SECONDS)
        if not thread.is_alive():
            self._lines = self._thread = None

    def _write(self, lines: queue.Queue[str | None]) -> None:
        while (line := lines.get()) is not None:
            lost, self._lost = self._lost, 0
            if lost:
                message = "%d lines of the log were lost: nobody read it"
                about = logging.LogRecord(PACKAGE, logging.WARNING, __file__, 0, message, (lost,), None)
                line = f"{self.format(about)}\n{line}"
            with contextlib.suppress(OSError, ValueError):  # it is closed: there is nobody to tell
                print(line, file=self.stream, flush=True)


def _fields(record: logging.LogRecord) -> Mapping[str, Any]:
    found: Mapping[str, Any] = getattr(record, "fields", {})
    return {key: value for key, value in found.items() if value is not None}


def _word(value: Any) -> str:
    """Returns a value as one word of a line."""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    if text and text.isprintable() and not set(text) & set(' ="\\'):
        return text
    return _printable(json.dumps(text, ensure_ascii=False))


def _printable(text: str) -> str:
    """Returns a text in which nothing can pass for a line of its own: some of it may be a client's."""
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(letter: str) -> str:
    return letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
