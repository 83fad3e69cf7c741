"""Flags, the environment and a file: who comes first, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fluoroscope_server.configuration import SETTINGS, Configuration
from fluoroscope_server.errors import SettingsError
from fluoroscope_server.settings import ModelSource, Settings


def test_nothing_said_is_the_defaults() -> None:
    found = Configuration.read({}, {"PATH": "/bin"})
    assert found.settings == Settings(models=())
    assert (found.origins, found.lines()) == ({}, [])


def test_a_flag_comes_before_the_environment_and_that_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text('max-programs = 1\nmax-compiles = 1\ngrace = 1\nmodel = ["a=b", "c=d"]\nlisten = ":1"\n')
    environment = {"FLUOROSCOPE_MAX_PROGRAMS": "2", "FLUOROSCOPE_MAX_COMPILES": "2", "FLUOROSCOPE_CONFIG": str(file)}
    found = Configuration.read({"max_programs": "3", "listen": None}, environment)
    settings = found.settings
    assert (settings.max_programs, settings.max_compiles, settings.grace_seconds) == (3, 2, 1.0)
    assert settings.models == (ModelSource.parse("a=b"), ModelSource.parse("c=d"))
    assert found.origins == {
        "max_programs": "--max-programs",
        "max_compiles": "FLUOROSCOPE_MAX_COMPILES",
        "grace_seconds": str(file),
        "models": str(file),
        "listen": str(file),
    }
    assert found.lines() == [
        f'model = ["a=b", "c=d"] ({file})',
        f'listen = ":1" ({file})',
        "max-programs = 3 (--max-programs)",
        "max-compiles = 2 (FLUOROSCOPE_MAX_COMPILES)",
        f"grace = 1 ({file})",
    ]


def test_a_file_that_is_named_comes_before_that_of_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text("grace = 4")
    found = Configuration.read({}, {"FLUOROSCOPE_CONFIG": "/nowhere"}, file=file)
    assert found.settings.grace_seconds == 4


def test_many_in_the_environment_are_words_as_of_a_shell() -> None:
    found = Configuration.read({}, {"FLUOROSCOPE_MODEL": "a=b 'c=/d e/f,family=g'"})
    assert [str(each) for each in found.settings.models] == ["a=b", "c=/d e/f,family=g"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("listn = ':1'", "server.toml: there is no setting 'listn'; nearest: 'listen'"),
        ("max_programs = 3", "there is no setting 'max_programs'; nearest: 'max-programs'"),
        ("[model]\na = 1", r"server.toml: model is \{'a': 1\}; expected a list of texts"),
        ("max-programs = '3'", "server.toml: max-programs '3' is not a whole number, 1 or more"),
        ("grace = true", "server.toml: grace True is not a number of seconds"),
        ("tokens = ''", "server.toml: tokens is empty: name a path"),
        ("model = 'a'", "server.toml: model: --model 'a' is not NAME=PATH"),
        ("grace = ", "is no TOML: "),
        pytest.param(f"grace = {5000 * '['}{5000 * ']'}", "is no TOML: ", id="deep"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "server.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=message):
        Configuration.read({}, {}, file=file)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"FLUOROSCOPE_LISTN": "x"}, "has FLUOROSCOPE_LISTN, and .* nearest: 'FLUOROSCOPE_LISTEN'"),
        ({"FLUOROSCOPE_CONFG": "x"}, "nearest: 'FLUOROSCOPE_CONFIG'"),
        ({"FLUOROSCOPE_GRACE": "long"}, "FLUOROSCOPE_GRACE 'long' is not a number of seconds, 0 or more"),
        ({"FLUOROSCOPE_REPOSITORY": ""}, "FLUOROSCOPE_REPOSITORY is empty: name a path"),
        ({"FLUOROSCOPE_REPOSITORY": "~nobody9/x"}, "FLUOROSCOPE_REPOSITORY '~nobody9/x' begins with a home"),
        ({"FLUOROSCOPE_CONFIG": "~nobody9/x"}, "FLUOROSCOPE_CONFIG '~nobody9/x' begins with a home"),
        ({"FLUOROSCOPE_MODEL": "a=~nobody9/x"}, "--model '~nobody9/x' begins with a home"),
        ({"FLUOROSCOPE_MODEL": "'a=b"}, "FLUOROSCOPE_MODEL cannot be split into words: No closing quotation"),
        ({"FLUOROSCOPE_CONFIG": "/nowhere/at/all"}, "/nowhere/at/all cannot be read: No such file"),
    ],
)
def test_environments_that_are_refused(environment: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Configuration.read({}, environment)


def test_what_is_meant_for_others_is_left_alone() -> None:
    """The client's own variables, and what Kubernetes tells of a Service of our name."""
    theirs = [
        "SERVER",
        "TOKEN",
        "SERVICE_HOST",
        "SERVICE_PORT",
        "SERVICE_PORT_GRPC",
        "PORT",
        "PORT_8500_TCP",
        "PORT_8500_TCP_ADDR",
        "CPU_SERVICE_HOST",
        "CPU_PORT_8500_TCP_PROTO",
    ]
    found = Configuration.read({}, {f"FLUOROSCOPE_{name}": "1" for name in theirs})
    assert found.origins == {}


def test_every_setting_is_documented() -> None:
    """A row of docs/operations.md is the setting's name, its default and bounds, and its help."""
    text = (Path(__file__).parents[2] / "docs/operations.md").read_text()
    wanted = [f"| `{each.name}` | {each.ends} | {each.help} |" for each in SETTINGS]
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    missing = [row for row in wanted if row not in rows]
    assert not missing, "docs/operations.md lacks:\n" + "\n".join(missing)
    known = {each.name for each in SETTINGS}
    assert len(rows) == len(known), "docs/operations.md has rows of settings that are no more"


def test_no_setting_is_taken_for_what_kubernetes_tells() -> None:
    said: dict[str, Any] = {each.variable: "!" for each in SETTINGS if each.kind is int}
    for name, value in said.items():
        with pytest.raises(SettingsError, match=name):
            Configuration.read({}, {name: value})
