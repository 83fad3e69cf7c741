"""README and its pages are true: their files are written, their commands run, and what they print is compared."""

from __future__ import annotations

import asyncio
import doctest
import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import nnx

from fluoroscope.v1 import inference_pb2, inspection_pb2, model_pb2
from fluoroscope_server.families.catalogue import BUILTIN
from fluoroscope_server.families.family_config import REQUIRED
from fluoroscope_server.model_config import DEFAULT_BUCKETS, ModelConfig
from fluoroscope_server.serving import DeviceQueue, StageClock, load
from fluoroscope_server.settings import ModelSource, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
README, INSPECTING, MODELS = PAGES = tuple(
    (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/inspecting.md", "docs/models.md")
)
"""Read one after the other, as the later pages go on with what the README has made."""
PAGES_WITH_LINKS = [
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/*.md"),
    *ROOT.glob("deploy/*.md"),
    *ROOT.glob("examples/*/*.md"),
]
BLOCK = re.compile(r"(?:<!-- (?P<comment>[^\n]*) -->\n)?```(?P<language>\w+)\n(?P<body>.*?)```\n", re.DOTALL)
BLOCKS = [block for page in PAGES for block in BLOCK.finditer(page)]
CONSOLE = [block for block in BLOCKS if block["language"] == "console"]
FILES = {
    block["body"].splitlines()[0].removeprefix("# "): block["body"]
    for block in BLOCKS
    if block["language"] == "python" and block["comment"] is None
}


class Command(NamedTuple):
    """A line behind a `$`, and what the README says that it prints."""

    line: str
    output: str


def commands() -> list[Command]:
    """Returns the commands that are run here, in the README's order."""
    texts = [block["body"] for block in CONSOLE if block["comment"] is None]
    return [
        Command(*part.partition("\n")[::2])
        for text in texts
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
    ]


def loose(text: str) -> str:
    """Returns a text without what may differ between machines: decimals, and how columns are spaced.

    Whole numbers are kept: shapes, sizes and counts are the same everywhere.
    """
    return re.sub(r"[ \t]+", " ", re.sub(r"-?\d+\.\d+(e-?\d+)?", "0.0", text))


class Place:
    """The folder in which the README's files are, and its server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server: subprocess.Popen[str] | None = None
        self.address = "localhost:8500"
        self.environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def run(self, line: str) -> str:
        run = subprocess.run(
            ["bash", "-c", line], capture_output=True, text=True, cwd=self.folder, env=self.environment, check=False
        )
        assert run.returncode == 0, f"{line}\n{run.stdout}{run.stderr}"
        return run.stdout

    def serve(self, line: str) -> None:
        """Starts the README's server on free ports, and sends what comes after it there."""
        itself = line.replace("fluoroscope-server", "exec fluoroscope-server")  # so that signals reach it, not bash
        self.server = subprocess.Popen(
            ["bash", "-c", f"{itself} --listen 127.0.0.1:0 --http-listen 127.0.0.1:0"],
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=self.environment,
        )
        assert self.server.stderr is not None
        said = ""
        for each in self.server.stderr:  # ends when the process does; the test's own timeout bounds it
            said += each
            if found := re.search(r"gRPC on (\S+)", each):
                self.address = found[1]
            if each.endswith(": ready\n"):
                break
        else:
            raise AssertionError(said)
        self.environment["FLUOROSCOPE_SERVER"] = self.address
        # From here on everything is a client: whatever it imports, it imports no JAX.
        blocked = self.folder / "blocked"
        blocked.mkdir()
        (blocked / "jax.py").write_text("raise ImportError('there is no JAX on this machine')\n")
        self.environment["PYTHONPATH"] = str(blocked)
        for file in self.folder.glob("*.py"):
            file.write_text(file.read_text().replace("localhost:8500", self.address))

    def stop(self) -> None:
        if self.server is not None:
            self.server.terminate()
            self.server.communicate(timeout=60)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    for name, body in FILES.items():
        (tmp_path / name).write_text(body)
    place = Place(tmp_path)
    yield place
    place.stop()


def test_every_command_works_and_prints_what_the_readme_says(place: Place) -> None:
    same = doctest.OutputChecker()
    served = False
    for command in commands():
        if " serve " in command.line:
            place.serve(command.line)
            served = True
            continue
        line = command.line.replace("localhost:8500", place.address)
        printed = place.run(line)
        if command.output:
            assert same.check_output(loose(command.output), loose(printed), doctest.ELLIPSIS), f"{line}\n{printed}"
    assert served
    assert place.server is not None
    place.stop()
    assert place.server.returncode == 0


def test_programs_that_ask_pass_a_strict_type_checker(place: Place) -> None:
    names = [name for name, body in FILES.items() if "import fluoroscope\n" in body]
    assert {"ask.py", "deeper.py"} < set(names)
    place.run(f"mypy --strict --config-file= --cache-dir=types {' '.join(names)}")


def test_commands_that_are_not_run_here_say_where_they_are() -> None:
    elsewhere = {block["comment"]: block["body"] for block in CONSOLE if block["comment"] is not None}
    assert [body.split("\n")[0].partition(" --reduce")[0] for body in elsewhere.values()] == [
        "$ make demo",
        "$ pip install '.[server]'",
        "$ fluoroscope inspect digits --dataset .demo/images.npz:images 'activations/*'",
        "$ fluoroscope compare digits image=@x.npy --versions 100,200 '**' --rtol 1e-3 --check",
        "$ fluoroscope-server seal checkpoints/flowers",
    ]
    for comment in [block["comment"] for block in BLOCKS if block["comment"] is not None]:
        (test,) = re.findall(r"tests/\S+\.py", comment)
        assert (ROOT / test).is_file()


def test_other_families_serve_what_was_saved_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "more_nets.py").write_text(FILES["more_nets.py"])
    monkeypatch.syspath_prepend(tmp_path)
    nets: Any = importlib.import_module("more_nets")
    x = np.array([[5.1, 3.5, 1.4, 0.2]], np.float32)
    weights = {
        "regularized": nets.Regularized().init(jax.random.key(0), x, train=False),
        "perceptron": nnx.state(nets.Perceptron(5, rngs=nnx.Rngs(0))),
        "line": {"w": np.ones((4, 3), np.float32), "b": np.ones(3, np.float32)},
    }
    for name, tree in weights.items():
        save(
            tmp_path / name,
            tree,
            {"family": f"more_nets:{name}", "config": {"hidden": 5}, "inputs": {"x": {"shape": [4]}}},
        )
    expected = {
        "regularized": ("Dense_0", nets.Regularized().apply(weights["regularized"], x, train=False)),
        "perceptron": ("inner", nets.Perceptron(5, rngs=nnx.Rngs(0))(x)),
        "line": ("add:0", x @ np.ones((4, 3), np.float32) + 1),
    }
    for name, (site, output) in expected.items():
        sites, found = asyncio.run(served(tmp_path / name, x))
        assert site in sites
        np.testing.assert_allclose(found, output, rtol=1e-6)


def save(folder: Path, tree: Any, config: dict[str, Any]) -> None:
    with ocp.CheckpointManager(folder, item_names=("state", "config")) as checkpoints:
        items = ocp.args.Composite(state=ocp.args.StandardSave(tree), config=ocp.args.JsonSave(config))
        checkpoints.save(1, args=items)


async def served(folder: Path, x: np.ndarray) -> tuple[set[str], np.ndarray]:
    """Returns the sites of a checkpoint's network, and what it answers."""
    device = DeviceQueue("readme")
    servable = load(ModelSource(name="net", path=folder), device, capacity=1, on_compile=lambda _: None)
    try:
        answer = await servable.predict({"x": x}, (), StageClock())
        return {site.path for site in servable.engine.sites}, answer["output"]
    finally:
        servable.engine.close()
        device.close()


def section(title: str) -> str:
    """Returns the text below a heading of the page about models."""
    return MODELS.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_table_of_the_families_has_every_key_and_its_default() -> None:
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\| (.*) \|$", section("Families"), re.MULTILINE)
    assert [name for name, _ in rows] == list(BUILTIN)
    for name, keys in rows:
        defaults = importlib.import_module(f"fluoroscope_server.families.{name}").DEFAULTS
        shown = {key: "required" if value is REQUIRED else json.dumps(value) for key, value in defaults.items()}
        assert keys == ", ".join(f"`{key}` {value}" for key, value in shown.items())


def test_table_of_the_config_has_every_key() -> None:
    keys = re.findall(r"^\| `(\w+)` \|", section("What a config says"), re.MULTILINE)
    assert keys == [field.name for field in fields(ModelConfig)]
    assert tuple(2**power for power in range(9)) == DEFAULT_BUCKETS


def test_the_preset_is_one() -> None:
    (block,) = [block["body"] for block in BLOCKS if block["language"] == "toml"]
    config = ModelConfig.parse({"family": "f", "inputs": {"x": {}}, **tomllib.loads(block)})
    assert config.presets["health"].reduce == ("statistics", "histogram:bins=50")


def test_table_of_the_rpcs_has_every_rpc() -> None:
    methods = [
        f"{service.name}.{method.name}"
        for file in (inference_pb2, inspection_pb2, model_pb2)
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]
    assert re.findall(r"^\| `(\w+\.\w+)` \|", README, re.MULTILINE) == methods


@pytest.mark.parametrize("page", PAGES_WITH_LINKS, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """To a file, and where one names a heading, to that."""
    links = [link.partition("#") for link in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8"))]
    inside = [(page.parent / path if path else page, anchor) for path, _, anchor in links if "://" not in path]
    assert [str(target) for target, _ in inside if not target.exists()] == []
    assert [f"{target}#{anchor}" for target, anchor in inside if anchor and anchor not in anchors(target)] == []


def anchors(page: Path) -> set[str]:
    """Returns what the headings of a page are called in links."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_it_listens_on_loopback_unless_told_otherwise_as_the_readme_says() -> None:
    settings = Settings(models=())
    assert (settings.listen, settings.http_listen) == ("127.0.0.1:8500", "127.0.0.1:8501")
