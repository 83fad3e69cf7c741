from __future__ import annotations

import io
from dataclasses import replace

import pytest

from fluoroscope import Program, Progress
from fluoroscope.cli.bar import Bar

HALF = Progress(
    model="digits",
    version=1,
    rows=1,
    program=Program(compiled=False, compile_seconds=0.0, bucket=1, stages=1, flops=0.0, flops_fraction=0.0),
    results=1,
    total_results=3,
    byte_count=1 << 20,
    total_bytes=2 << 20,
    stages={},
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_long_stream_on_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    with Bar(patience=-1, file=terminal) as bar:
        bar(HALF)
        bar(replace(HALF, results=2))

    assert "2 of 3 results" in terminal.getvalue()
    assert bar.last is not None
    assert bar.last.results == 2


@pytest.mark.parametrize(("patience", "file"), [(60, Terminal()), (-1, io.StringIO())], ids=["short", "no terminal"])
def test_else_nothing_is_shown(patience: float, file: io.StringIO) -> None:
    with Bar(patience=patience, file=file) as bar:
        bar(HALF)

    assert file.getvalue() == ""
    assert bar.last is HALF
