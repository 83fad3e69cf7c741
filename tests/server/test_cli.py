"""The command line: help that teaches, and settings that are refused before anything is imported or started."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

from fluoroscope_server.cli import main


def test_help_says_what_to_do_next() -> None:
    result = CliRunner().invoke(main, ["serve", "--help"])
    assert result.exit_code == 0
    for words in ("--model NAME=PATH[,family=FAMILY]", "model.toml", "127.0.0.1:8500", "fluoroscope sites digits"):
        assert words in result.output


def test_help_needs_no_jax() -> None:
    """It takes seconds to import."""
    code = "import sys; import fluoroscope_server.cli; print('jax' in sys.modules, 'grpc' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed == "False False\n"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "Missing option '--model'"),
        (["--model", "digits"], 1, "Error: --model 'digits' is not NAME=PATH"),
        (["--model", "a b=p"], 1, "Error: model name 'a b' may hold letters"),
        (["--model", "a=p", "--model", "a=q"], 1, "Error: two models are named 'a'"),
        (["--model", "a=p", "--max-programs", "0"], 2, "--max-programs"),
        (["--model", "a=p", "--grace", "-1"], 2, "--grace"),
        (["--model", "a=p", "--max-request-mib", "2048"], 2, "--max-request-mib"),
    ],
)
def test_refusals(arguments: list[str], code: int, message: str) -> None:
    result = CliRunner().invoke(main, ["serve", *arguments])
    assert result.exit_code == code
    assert message in result.output
