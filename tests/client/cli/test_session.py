"""The options that every command takes: whose token is shown, and how often a call is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.client.cli.conftest import Run
    from tests.client.fake_server import FakeServer


def test_a_token_from_a_file_comes_first(run: Run, server: FakeServer, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("of-the-file\n")
    assert run("--token", "of-the-command-line", "models", "--token-file", str(file)).exit_code == 0
    assert server.metadata["authorization"] == "Bearer of-the-file"


def test_a_token_from_the_environment(
    run: Run, server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLUOROSCOPE_TOKEN", "of-the-environment")
    assert run("models").exit_code == 0
    assert server.metadata["authorization"] == "Bearer of-the-environment"
    file = tmp_path / "token"
    file.write_text("of-its-file")
    monkeypatch.setenv("FLUOROSCOPE_TOKEN_FILE", str(file))
    assert run("models").exit_code == 0
    assert server.metadata["authorization"] == "Bearer of-its-file"


def test_a_token_file_that_is_empty(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("\n")
    result = run("models", "--token-file", str(file))
    assert result.exit_code == 2
    assert "is empty" in result.stderr


def test_a_token_goes_to_no_other_machine_unencrypted(run: Run) -> None:
    result = run("-s", "node.invalid:8500", "--token", "hunter2", "models")
    assert result.exit_code == 2
    assert "--root-certificates" in result.stderr
    assert "hunter2" not in result.stderr


def test_no_retries(run: Run, server: FakeServer) -> None:
    server.fail(grpc.StatusCode.UNAVAILABLE, "not now")
    assert run("--retries", "0", "models").exit_code == 3
    assert len(server.requests) == 1


@pytest.mark.parametrize("option", ["--client-certificate", "--client-key"])
def test_a_certificate_without_its_key(run: Run, tmp_path: Path, option: str) -> None:
    file = tmp_path / "client.pem"
    file.write_text("PEM")
    result = run("models", option, str(file))
    assert result.exit_code == 2
    assert "go together" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--token", "a b"], "the token is none"),
        (["--server", ""], "Invalid value for --server: it is empty; expected HOST:PORT."),
        (["--token-file", "/proc/self/mem"], "/proc/self/mem cannot be read: Input/output error."),
        (["--root-certificates", "/proc/self/mem"], "cannot be read: Input/output error."),
    ],
)
def test_options_with_which_no_call_can_be_made(run: Run, server: FakeServer, words: list[str], message: str) -> None:
    result = run("models", *words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not server.requests
