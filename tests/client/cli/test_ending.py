from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo

from fluoroscope.v1 import model_pb2

if TYPE_CHECKING:
    from tests.client.cli.conftest import Run
    from tests.client.fake_server import FakeServer

X = "image=[[[1],[-2]],[[3],[0.5]]]"
COMMANDS = [["predict", "digits", X], ["inspect", "digits", X], ["sites", "digits"], ["models"], ["models", "digits"]]


def start(server: FakeServer, *words: str) -> subprocess.Popen[str]:
    """The command in a process of its own, as a shell starts it."""
    return subprocess.Popen(
        [sys.executable, "-m", "fluoroscope", *words],
        env=os.environ | {"FLUOROSCOPE_SERVER": server.target},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def in_shell(server: FakeServer, line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command and its redirections, to their end."""
    return subprocess.run(
        f"{sys.executable} -m fluoroscope {line}",
        shell=True,
        env=os.environ | {"FLUOROSCOPE_SERVER": server.target, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (grpc.StatusCode.NOT_FOUND, 1),
        (grpc.StatusCode.INVALID_ARGUMENT, 1),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 1),
        (grpc.StatusCode.INTERNAL, 1),
        (grpc.StatusCode.UNAVAILABLE, 3),
        (grpc.StatusCode.DEADLINE_EXCEEDED, 3),
    ],
)
def test_the_exit_code_tells_what_went_wrong(
    run: Run, server: FakeServer, code: grpc.StatusCode, expected: int
) -> None:
    server.fail(code, "the server's own words", ErrorInfo(reason="A_REASON"))
    for words in COMMANDS:
        result = run(*words)

        assert result.exit_code == expected
        assert result.stdout == ""
        assert result.stderr.startswith("Error: ")
        assert "the server's own words" in result.stderr


def test_what_the_client_itself_refuses_is_of_the_command_line(run: Run) -> None:
    result = run("inspect", "digits", X, "--dtype", "nope")

    assert result.exit_code == 2
    assert "dtype is 'nope', which is none" in result.stderr


def test_a_refusal_without_details_is_the_servers(run: Run, server: FakeServer) -> None:
    server.fail(grpc.StatusCode.INVALID_ARGUMENT, "no")

    assert run("models").exit_code == 1


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_no_server(run: Run, words: list[str]) -> None:
    for place in (["-s", "127.0.0.1:1", *words], [*words, "--server", "127.0.0.1:1"]):
        result = run(*place)

        assert result.exit_code == 3
        assert "no connection to a fluoroscope server at 127.0.0.1:1" in result.stderr


def test_options_behind_the_command_win(run: Run, server: FakeServer) -> None:
    assert run("--token", "first", "models", "--token", "second").exit_code == 0
    assert server.metadata["authorization"] == "Bearer second"


def test_a_corrupt_stream(run: Run, server: FakeServer) -> None:
    server.break_stream = lambda messages: [messages[0], *messages[2:]]
    result = run("inspect", "digits", X)

    assert result.exit_code == 4
    assert "expected offset 0" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("words", [[], ["predict"], ["inspect"], ["sites"], ["models"]])
def test_help_teaches(run: Run, words: list[str]) -> None:
    result = run(*words, "--help")

    assert result.exit_code == 0
    assert "Examples:\n  fluoroscope " in result.stdout.replace("\n    fluoroscope", "\n  fluoroscope")
    assert "4    the stream was incomplete or corrupt" in result.stdout


def test_it_runs_as_a_process(server: FakeServer) -> None:
    process = start(server, "predict", "digits", X)
    output, errors = process.communicate(timeout=60)

    assert (process.returncode, output, errors) == (0, "logits: float32, 1 x 2\n[[ 2. -4.]]\n", "")


def test_control_c(server: FakeServer) -> None:
    server.hold = threading.Event()
    process = start(server, "inspect", "digits", X)
    assert server.holding.wait(60)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)

    assert (process.returncode, output, errors) == (130, "", "Interrupted.\n")
    assert server.cancelled.wait(10)


@pytest.mark.parametrize("words", [["sites", "digits"], ["sites", "digits", "--json"]], ids=["table", "json"])
def test_a_reader_that_has_enough_is_no_error(server: FakeServer, words: list[str]) -> None:
    server.hold = threading.Event()
    process = start(server, *words)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    errors = process.stderr.read()
    process.stderr.close()

    assert (process.wait(60), errors) == (0, "")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("models > /dev/full", "standard output cannot be written: No space left on device."),
        ("models --json > /dev/full", "standard output cannot be written: No space left on device."),
        ("--help > /dev/full", "standard output cannot be written: No space left on device."),
        ("models >&-", "standard output cannot be written: it is closed."),
        ("predict digits - <&-", "standard input is closed"),
        ("predict digits - 0> /dev/null", "standard input cannot be read: Bad file descriptor."),
    ],
)
def test_a_stream_that_cannot_be_used(server: FakeServer, line: str, message: str) -> None:
    ended = in_shell(server, line)

    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"Error: {message}" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_nothing_is_said_where_standard_error_is_closed(server: FakeServer) -> None:
    ended = in_shell(server, f"inspect digits '{X}' 2>&-")

    assert (ended.returncode, ended.stderr) == (0, "")
    assert "Dense_0" in ended.stdout


def test_names_that_standard_output_cannot_spell(server: FakeServer) -> None:
    server.models = [model_pb2.Model(name="caf\u00e9")]
    ended = in_shell(server, "models", PYTHONIOENCODING="ascii")

    assert (ended.returncode, ended.stderr) == (0, "")
    assert r"caf\xe9" in ended.stdout
