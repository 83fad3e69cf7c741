from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def known() -> set[str]:
    """The flags that `fluoroscope-server serve` has."""
    serve = [sys.executable, "-m", "fluoroscope_server", "serve", "--help"]
    run = subprocess.run(serve, capture_output=True, text=True, check=True)
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", run.stdout))


def flags(command: list[str]) -> set[str]:
    assert command[0] == "serve"
    return {word.partition("=")[0] for word in command[1:]}


def test_compose_uses_flags_that_the_server_has(known: set[str], compose: dict[str, Any]) -> None:
    assert flags(compose["services"]["server"]["command"]) <= known


def test_kubernetes_uses_flags_that_the_server_has(known: set[str], deployment: dict[str, Any]) -> None:
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert flags(container["args"]) <= known


def test_readme_uses_flags_that_the_server_has(known: set[str], deploy: Path) -> None:
    words = (deploy / "README.md").read_text().partition("fluoroscope:cpu serve ")[2].partition("\n")[0].split()
    assert len(words) == 3
    assert {word.partition("=")[0] for word in words} <= known
