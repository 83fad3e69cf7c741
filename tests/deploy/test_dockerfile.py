from __future__ import annotations

import http.server
import json
import re
import shutil
import subprocess
import sys
import threading
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

Instructions = list[tuple[str, str]]


@pytest.fixture(scope="module")
def project(repository: Path) -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    return project


@pytest.fixture(scope="module")
def arguments(instructions: Instructions) -> dict[str, str]:
    return dict(text.split("=", 1) for keyword, text in instructions if keyword == "ARG")


@pytest.fixture(scope="module")
def copied(instructions: Instructions) -> set[str]:
    """What the image takes from the repository."""
    copies = [text.split() for keyword, text in instructions if keyword == "COPY" and not text.startswith("--from")]
    return {source for *sources, _ in copies for source in sources}


def test_hadolint_finds_nothing(deploy: Path) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    run = subprocess.run([hadolint, deploy / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout + run.stderr) == (0, "")


def test_what_is_copied_is_there_and_not_ignored(repository: Path, copied: set[str]) -> None:
    assert copied
    ignore = (repository / ".dockerignore").read_text().splitlines()
    assert "*" in ignore  # so that only what is named below reaches the builder
    for name in copied:
        assert (repository / name).exists()
        assert f"!{name}" in ignore
    assert {line[1:] for line in ignore if line.startswith("!")} == copied


def test_what_is_copied_is_enough_to_build_the_wheel(repository: Path, copied: set[str], tmp_path: Path) -> None:
    for name in copied:
        if (repository / name).is_dir():
            shutil.copytree(repository / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(repository / name, tmp_path)
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", "wheels"]
    subprocess.run(build, cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = (tmp_path / "wheels").iterdir()
    names = zipfile.ZipFile(wheel).namelist()
    assert {"fluoroscope/py.typed", "fluoroscope_server/py.typed"} <= set(names)


def test_each_accelerator_is_an_extra_of_the_package(instructions: Instructions, project: dict[str, Any]) -> None:
    (choice,) = [text for keyword, text in instructions if keyword == "RUN" and "case" in text]
    patterns = re.findall(r"([\w| ]+)\) extra=", choice.partition(" in ")[2])
    accelerators = {name.strip() for pattern in patterns for name in pattern.split("|")}
    assert accelerators - {"cpu"} == project["optional-dependencies"].keys() - {"server"}
    assert "cpu) extra=server" in choice


def test_versions_agree_with_the_project_and_its_lock_file(
    repository: Path, arguments: dict[str, str], project: dict[str, Any]
) -> None:
    assert arguments["VERSION"] == project["version"]
    assert f"\nuv=={arguments['UV_VERSION']} \\" in (repository / "requirements.lock").read_text()
    python = arguments["PYTHON_IMAGE"].removeprefix("python:").removesuffix("-slim-bookworm")
    assert f"Programming Language :: Python :: {python}" in project["classifiers"]


def test_it_runs_as_a_number_that_is_not_root(instructions: Instructions) -> None:
    users = [text for keyword, text in instructions if keyword == "USER"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1])


def test_its_command_is_one_of_the_package(instructions: Instructions, project: dict[str, Any]) -> None:
    (command,) = json.loads(next(text for keyword, text in instructions if keyword == "ENTRYPOINT"))
    assert command in project["scripts"]


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_health_is_what_readyz_says(instructions: Instructions, *, status: int, healthy: bool) -> None:
    asked = []

    class Readiness(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's own name
            pass

    check = next(text for keyword, text in instructions if keyword == "HEALTHCHECK")
    _, option, code = json.loads(check[check.index("[") :])
    with http.server.HTTPServer(("127.0.0.1", 0), Readiness) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert "127.0.0.1:8501" in code
        moved = code.replace("127.0.0.1:8501", f"127.0.0.1:{server.server_port}")
        run = subprocess.run([sys.executable, option, moved], capture_output=True, check=False)
        server.shutdown()
    assert asked == ["/readyz"]
    assert (run.returncode == 0) == healthy
