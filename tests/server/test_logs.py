"""The log: one line for each event, whatever it holds."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluoroscope_server.logs import (
    HELD,
    PACKAGE,
    Budget,
    JsonFormatter,
    TextFormatter,
    fields,
    write_logs,
    written_behind,
)


def record(message: str, level: int = logging.INFO, *, exception: Exception | None = None, **more: Any) -> Any:
    cause = None if exception is None else (type(exception), exception, None)
    made = logging.LogRecord("fluoroscope_server.x", level, "x.py", 1, message, None, cause)
    made.__dict__.update(fields(**more))
    made.created, made.msecs = 1_764_000_000.5, 500.0
    return made


def test_for_people() -> None:
    write = TextFormatter().format
    assert write(record("ready")) == "fluoroscope-server: ready"
    assert write(record("hot", logging.WARNING)) == "fluoroscope-server: warning: hot"
    said = write(record("call", code="OK", seconds=0.00012, error='no "x" = y', nothing=None, empty=""))
    assert said == r'fluoroscope-server: call code=OK seconds=0.00012 error="no \"x\" = y" empty=""'
    failed = write(record("bad", logging.ERROR, exception=ValueError("why")))
    assert failed == "fluoroscope-server: error: bad\nValueError: why"


def test_for_programs() -> None:
    said = json.loads(JsonFormatter().format(record("bad", logging.ERROR, exception=ValueError("why"), seconds=0.1)))
    assert said == {
        "time": "2025-11-24T16:00:00.500Z",
        "level": "error",
        "logger": "fluoroscope_server.x",
        "message": "bad",
        "seconds": 0.1,
        "exception": "ValueError: why",
    }


@given(st.text(), st.text())
def test_nothing_in_an_event_can_pass_for_another_line(message: str, value: str) -> None:
    event = record(message, error=value)
    (_,) = TextFormatter().format(event).splitlines()
    (line,) = JsonFormatter().format(event).splitlines()
    said = json.loads(line)
    assert (said["message"], said["error"]) == (message, value)


@pytest.mark.usefixtures("loggers")
def test_what_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    write_logs("text", "warning")
    write_logs("json", "info")
    logging.getLogger(f"{PACKAGE}.rpc").info("%d things", 3)
    logging.getLogger(f"{PACKAGE}.rpc").debug("small things")
    logging.getLogger("jax").info("what libraries do")
    logging.getLogger("jax").warning("what libraries fear")
    said = [json.loads(line)["message"] for line in capsys.readouterr().err.splitlines()]
    assert said == ["3 things", "what libraries fear"]
    assert sys.stderr is not None


def test_a_storm_of_failures_is_not_one_of_lines() -> None:
    now = 0.0
    budget = Budget(3, lambda: now)
    assert [budget.take() for _ in range(5)] == [0, 0, 0, None, None]
    now = 0.9
    assert budget.take() is None
    now = 1.0
    assert [budget.take(), budget.take()] == [3, 0]
    now = 60.0
    assert [budget.take() for _ in range(4)] == [0, 0, 0, None]


@pytest.mark.usefixtures("loggers")
def test_nobody_waits_for_whoever_reads_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe that is not read is full after 64 KiB: who writes to it waits then."""
    receive, send = os.pipe()
    with os.fdopen(send, "w") as unread, os.fdopen(receive) as reader:
        monkeypatch.setattr(sys, "stderr", unread)
        write_logs("text", "info")
        with written_behind():
            for number in range(3 * HELD):
                logging.getLogger(PACKAGE).info("%s", f"line {number} " + 200 * "x")  # returns, though nobody reads
            read = threading.Thread(target=lambda: lines.extend(reader))
            lines: list[str] = []
            read.start()
            while len(lines) < HELD:  # more than the pipe holds: there is room for another line
                time.sleep(0.001)
            logging.getLogger(PACKAGE).info("the last")
        monkeypatch.undo()
        unread.close()
        read.join(60)
    assert next(line for line in lines if "lost" not in line).startswith("fluoroscope-server: line 0 x")
    assert lines[-1] == "fluoroscope-server: the last\n"
    losses = [int(line.split()[2]) for line in lines if "lines of the log were lost" in line]
    assert losses  # twice, where the writer comes to write its first line only after some were lost
    assert len(lines) == 3 * HELD - sum(losses) + len(losses) + 1
