from __future__ import annotations

import io
from dataclasses import replace

import pytest

from fluoroscope import Inspection, Program, Progress
from fluoroscope.cli.bar import Bar, RowBar
from fluoroscope.v1 import inspection_pb2

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


def answer(seconds: float) -> Inspection:
    stage = inspection_pb2.StageTime(stage="compute", seconds=seconds)
    return Inspection(
        [],
        header=inspection_pb2.StreamHeader(model="digits", version=3, rows=8),
        trailer=inspection_pb2.StreamTrailer(stages=[stage]),
    )


def test_a_data_set_has_a_bar_of_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    with RowBar(16, patience=-1, file=terminal) as bar:
        assert bar.about == {}
        bar(answer(0.25), done=8, passes=1)
        bar(answer(0.5), done=16, passes=2)

    assert "examples, pass 2" in terminal.getvalue()
    assert "16/16" in terminal.getvalue()
    about = bar.about
    assert (about["model"], about["version"], about["rows"], about["passes"]) == ("digits", 3, 16, 2)
    assert about["stages"] == {"compute": 0.75}
