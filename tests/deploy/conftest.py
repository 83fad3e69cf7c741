"""The files of deploy/, read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def deploy() -> Path:
    return REPOSITORY / "deploy"


@pytest.fixture(scope="session")
def instructions(deploy: Path) -> list[tuple[str, str]]:
    """The Dockerfile as pairs: an instruction in capitals, and what follows it on one line."""
    lines = [line for line in (deploy / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    pairs = [line.split(maxsplit=1) for line in joined if line.strip()]
    return [(keyword, " ".join(rest.split())) for keyword, rest in pairs]


@pytest.fixture(scope="session")
def image_compile_cache(instructions: list[tuple[str, str]]) -> Path:
    """Where a server in the image keeps compiled programs, if nobody says otherwise."""
    from fluoroscope_server.settings import default_compile_cache

    (home,) = [
        word.partition("=")[2]
        for keyword, text in instructions
        if keyword == "ENV"
        for word in text.split()
        if word.startswith("XDG_CACHE_HOME=")
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", home)
        return default_compile_cache()


@pytest.fixture(scope="session")
def compose(deploy: Path) -> dict[str, Any]:
    return read_yaml(deploy / "compose.yaml")


@pytest.fixture(scope="session")
def deployment(deploy: Path) -> dict[str, Any]:
    return read_yaml(deploy / "kubernetes" / "gpu" / "deployment.yaml")


@pytest.fixture(scope="session")
def service(deploy: Path) -> dict[str, Any]:
    return read_yaml(deploy / "kubernetes" / "gpu" / "service.yaml")


def read_yaml(path: Path) -> dict[str, Any]:
    (document,) = yaml.safe_load_all(path.read_text())
    assert isinstance(document, dict)
    return document
