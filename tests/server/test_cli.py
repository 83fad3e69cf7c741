"""The command line: help that teaches, and settings that are refused before anything is imported or started."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from fluoroscope_server import cli
from fluoroscope_server.cli import main
from fluoroscope_server.configuration import SETTINGS
from fluoroscope_server.keys import Scope, Tokens
from fluoroscope_server.settings import Swap

if TYPE_CHECKING:
    from collections.abc import Callable

    from fluoroscope_server.settings import Settings

pytestmark = pytest.mark.usefixtures("loggers")


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
        ([], 2, "Error: there is nothing to serve: give --model NAME=PATH, or --repository DIR"),
        (["--model", "a=p", "--poll", "0"], 2, "--poll"),
        (["--model", "a=p", "--swap", "swop"], 2, "--swap 'swop' is not one of keep, stop-then-load"),
        (["--model", "digits"], 2, "Error: --model 'digits' is not NAME=PATH"),
        (["--model", "a b=p"], 2, "Error: model name 'a b' may hold letters"),
        (["--model", "a=p", "--model", "a=q"], 2, "Error: two models are named 'a'"),
        (["--model", "a=p", "--max-programs", "0"], 2, "--max-programs '0' is not a whole number, 1 or more"),
        (["--model", "a=p", "--max-compiles", "two"], 2, "--max-compiles 'two' is not a whole number"),
        (["--model", "a=p", "--compile-cache-mib", "0"], 2, "--compile-cache-mib '0' is not"),
        (["--model", "a=p", "--compile-cache", "/dev/null"], 1, "Error: /dev/null cannot be used: File exists"),
        (["--model", "a=p", "--grace", "-1"], 2, "--grace '-1' is not a number of seconds, 0 or more"),
        (["--model", "a=p", "--max-request-mib", "2048"], 2, "'2048' is not a whole number of MiB, 1 to 2047"),
        (["--model", "a=p", "--keepalive", "2e9"], 2, "--keepalive '2e9' is not a number of seconds, 1 to 2000000"),
        (["--model", "a=p", "--no-such-flag"], 2, "No such option"),
    ],
)
def test_refusals(arguments: list[str], code: int, message: str) -> None:
    result = CliRunner().invoke(main, ["serve", *arguments])
    assert result.exit_code == code
    assert message in result.output


def test_settings_are_printed_as_a_file_that_says_the_same(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text('model = "a=p"\n"max-programs" = 7\n')
    asked = ["serve", "--config", str(file), "--listen", ":1", "--print-settings"]
    result = CliRunner().invoke(main, asked, env={"FLUOROSCOPE_GRACE": "1.5"})
    assert result.exit_code == 0
    chosen = [line for line in result.output.splitlines() if line and not line.startswith("#")]
    assert chosen == [
        f'model = ["a=p"]  # {file}',
        'listen = ":1"  # --listen',
        f"max-programs = 7  # {file}",
        "grace = 1.5  # FLUOROSCOPE_GRACE",
    ]
    file.write_text(result.output)
    again = CliRunner().invoke(main, ["serve", "--print-settings"], env={"FLUOROSCOPE_CONFIG": str(file)})
    assert tomllib.loads(again.output) == tomllib.loads(result.output)
    file.write_text(re.sub(r"^# ([a-z-]+ = )", r"\1", result.output, flags=re.MULTILINE))
    everything = tomllib.loads(file.read_text())
    assert list(everything) == [each.name for each in SETTINGS]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Settings, str]]:
    """Runs `serve` with more arguments; returns the settings that a server would be started with, and what was said."""

    def run(*arguments: str) -> tuple[Settings, str]:
        made: list[Settings] = []
        monkeypatch.setattr(cli, "_run", made.append)
        result = CliRunner().invoke(main, ["serve", "--model", "a=p", *arguments])
        assert result.exit_code == 0, result.output
        return made[0], result.output

    return run


def test_where_compiled_programs_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: Callable[..., tuple[Settings, str]]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    settings, said = asked("--compile-cache", "off")
    assert (settings.compile_cache, list(tmp_path.iterdir())) == (None, [])
    settings, said = asked("--compile-cache-mib", "3")
    assert settings.compile_cache == tmp_path / "cache" / "fluoroscope" / "programs"
    assert settings.compile_cache.is_dir()
    assert settings.compile_cache_bytes == 3 << 20
    settings, said = asked("--compile-cache", str(tmp_path / "mine"))
    assert settings.compile_cache == tmp_path / "mine"
    assert "not kept" not in said


def test_a_server_starts_without_the_usual_folder_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: Callable[..., tuple[Settings, str]]
) -> None:
    """A file system that nobody can write to, for one; a folder that the operator names must do, though."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "fluoroscope").mkdir(mode=0o700)
    shared = tmp_path / "fluoroscope" / "programs"
    shared.mkdir()
    shared.chmod(0o777)
    settings, said = asked()
    assert settings.compile_cache is None
    assert f"fluoroscope-server: compiled programs are not kept: others can write to {shared}" in said
    result = CliRunner().invoke(main, ["serve", "--model", "a=p", "--compile-cache", str(shared)])
    assert (result.exit_code, result.output.startswith(f"Error: others can write to {shared}")) == (1, True)


def test_what_is_watched(asked: Callable[..., tuple[Settings, str]]) -> None:
    settings, _ = asked()
    assert (settings.repository, settings.watch, settings.swap) == (None, False, Swap.KEEP)
    settings, _ = asked("--repository", "models", "--watch", "--poll", "0.5", "--swap", "stop-then-load")
    assert (settings.repository, settings.watch) == (Path("models"), True)
    assert (settings.poll_seconds, settings.swap) == (0.5, Swap.STOP_THEN_LOAD)


def test_keys_are_files(asked: Callable[..., tuple[Settings, str]]) -> None:
    settings, _ = asked("--compile-cache=off", "--tls-certificate=c", "--tls-key=k", "--tls-client-ca=a", "--tokens=t")
    files = (settings.tls_certificate, settings.tls_key, settings.tls_client_ca, settings.tokens)
    assert [str(file) for file in files] == ["c", "k", "a", "t"]
    assert not settings.allow_insecure_tokens
    assert asked("--compile-cache=off", "--allow-insecure-tokens")[0].allow_insecure_tokens


def test_a_new_token_and_its_entry_go_different_ways(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fluoroscope_server", "token", "ada", "--scope", "inspect", "--model", "digits"]
    run = subprocess.run([*command, "--expires", "2100-01-01"], capture_output=True, text=True, check=True)
    words, secret = run.stderr.splitlines()
    assert words == "fluoroscope-server: the token of ada, shown this once:"
    assert secret not in run.stdout
    file = tmp_path / "tokens.toml"
    file.write_text(run.stdout)
    file.chmod(0o600)
    known = Tokens(file).of_bearer(secret)
    assert (known.name, known.scopes, known.models) == ("ada", frozenset({Scope.INSPECT}), frozenset({"digits"}))


@pytest.mark.parametrize(
    "words",
    [
        ["ada"],
        ["ada", "--scope", "root"],
        ["--scope", "admin"],
        ["ada", "--scope", "admin", "--model", "*"],
        ["ada", "--scope", "admin", "--expires", "2020-01-01"],
    ],
)
def test_tokens_that_are_refused(words: list[str]) -> None:
    assert CliRunner().invoke(main, ["token", *words]).exit_code == 2


def test_what_is_said_at_the_start_can_be_json(asked: Callable[..., tuple[Settings, str]]) -> None:
    settings, said = asked("--log-format=json", "--compile-cache=off")
    (event,) = [json.loads(line) for line in said.splitlines()]
    assert event["message"].startswith('settings: model = ["a=p"] (--model); compile-cache = "off" (--compile-cache)')
    assert settings.log_format == "json"
