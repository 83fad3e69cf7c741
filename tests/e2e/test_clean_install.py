"""What `pip install fluoroscope` brings to a machine that has nothing: the client, and no JAX."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import venv
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .server_process import ServerProcess

REPOSITORY = Path(__file__).parents[2]
ABSENT = {"jax", "jaxlib", "flax", "orbax-checkpoint", "prometheus-client", "uvloop", "grpcio-health-checking"}
PROGRAM = """
import sys
import fluoroscope
import numpy as np

x = np.ones((2, 6), np.float32)
with fluoroscope.Client(sys.argv[1]) as client:
    logits = client.predict("relu", {"x": x})["logits"]
    found = client.inspect("relu", {"x": x}, sites="activations/*")
assert found["activations/4"].array.tobytes() == logits.tobytes()
assert not {"jax", "jaxlib", "flax", "orbax", "prometheus_client"} & set(sys.modules)
print(len(found), logits.shape)
"""


def run(*words: str | Path, cwd: Path) -> str:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=240, cwd=cwd, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def locked() -> list[str]:
    """Returns the versions of the lock file as constraints: markers stay, hashes go."""
    return re.findall(r"^([\w.-]+==[^\\\n]+)", (REPOSITORY / "requirements.lock").read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment in which our wheel was installed, and what it asks for."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    (folder / "constraints.txt").write_text("\n".join(locked()) + "\n")
    pip = (python, "-m", "pip", "--disable-pip-version-check")
    probe = [*pip, "download", "--quiet", "--no-deps", "--retries=1", "--timeout=15", "--dest=probe"]
    found = subprocess.run(
        [*map(str, [*probe, "--constraint=constraints.txt", "click"])],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=folder,
        check=False,
    )
    if found.returncode != 0:
        pytest.skip("no package index can be reached, and this test installs packages")
    run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder / "dist", cwd=REPOSITORY)
    (wheel,) = (folder / "dist").glob("fluoroscope-*.whl")
    run(*pip, "install", "--quiet", "--constraint=constraints.txt", wheel, cwd=folder)
    return python


@pytest.mark.timeout(300)
def test_the_client_brings_no_jax(python: Path) -> None:
    listed = json.loads(run(python, "-m", "pip", "list", "--format=json", cwd=python.parent))
    installed = {each["name"].lower().replace("_", "-") for each in listed}
    assert "fluoroscope" in installed
    assert installed.isdisjoint(ABSENT)
    assert run(python, "-m", "pip", "check", cwd=python.parent) == "No broken requirements found.\n"


@pytest.mark.timeout(300)
def test_the_command_is_there_and_works(python: Path, server: ServerProcess) -> None:
    command = python.parent / "fluoroscope"
    assert "Asks a fluoroscope server for predictions" in run(command, "--help", cwd=python.parent)
    assert run(command, "--version", cwd=python.parent).startswith("fluoroscope, version ")
    run(python, "-W", "error", "-c", "import fluoroscope", cwd=python.parent)
    listed = json.loads(run(command, "--server", server.target, "models", "--json", cwd=python.parent))
    assert "relu" in {model["name"] for model in listed}


@pytest.mark.timeout(300)
def test_it_predicts_and_inspects(python: Path, server: ServerProcess) -> None:
    assert run(python, "-c", PROGRAM, server.target, cwd=python.parent) == "5 (2, 5)\n"


@pytest.mark.timeout(300)
def test_the_server_says_what_it_lacks(python: Path) -> None:
    done = subprocess.run(
        [str(python.parent / "fluoroscope-server"), "serve", "--model", "m=/nowhere"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "fluoroscope[server]" in done.stderr
    assert "Traceback" not in done.stderr
