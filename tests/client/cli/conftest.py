"""The command line, called in this process."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from click.testing import CliRunner

from fluoroscope.cli import main

if TYPE_CHECKING:
    from click.testing import Result
    from tests.client.fake_server import FakeServer

# click 8.1 mixes standard output and error unless it is told not to, and 8.2 never does.
APART: dict[str, Any] = {"mix_stderr": False} if "mix_stderr" in signature(CliRunner).parameters else {}


class Run(Protocol):
    """Runs the command line against the test's server."""

    def __call__(self, *words: str, stdin: bytes = b"") -> Result: ...


@pytest.fixture
def run(server: FakeServer) -> Run:
    """The command `fluoroscope`, with `--server` set through the environment."""

    def call(*words: str, stdin: bytes = b"") -> Result:
        environment = {"FLUOROSCOPE_SERVER": server.target, "COLUMNS": "200"}
        return CliRunner(env=environment, **APART).invoke(main, list(words), input=stdin, catch_exceptions=False)

    return call
