"""The demo, run as its users run it: in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import psutil
import pytest

import fluoroscope
from fluoroscope_server.families.base_network import build

if TYPE_CHECKING:
    from collections.abc import Iterator

    from layers import Layer

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "digits"
sys.path.insert(0, str(EXAMPLE))  # the example is a folder of scripts, as it is for its users

from dataset import Dataset  # noqa: E402 - found through the line above; here and below
from layers import measure  # noqa: E402
from recipe import Recipe  # noqa: E402
from record import Record  # noqa: E402
from tour import SITES  # noqa: E402

LEFT = {"digit.npy", "digits", "images.npz", "made-by-make-demo.txt", "trained.json"}
"""What a demo leaves in its folder."""

ROW = re.compile(r"^ +((?:Dense_|relu:)\d) +(?:pre|post)-activation +(\d+) +(\S+) +(\S+) +(\S+)% +(\d+)$", re.MULTILINE)
"""A row of the table of all layers: site, units, mean, variance, fraction zero, dead units."""


class Demo:
    """A demo under way, and what it printed so far."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.temporary = folder.parent / f"{folder.name}-tmp"
        self.temporary.mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, str(EXAMPLE / "demo.py"), "--folder", str(folder), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            cwd=folder.parent,
            env={
                **os.environ,
                "TMPDIR": str(self.temporary),
                "PYTHONUTF8": "1",
                "PYTHONUNBUFFERED": "1",
                "COLUMNS": "100",
            },
        )
        self.text = ""

    def read_until(self, pattern: str) -> re.Match[str]:
        assert self.process.stdout is not None
        for line in self.process.stdout:  # ends when the process does; the test's own timeout bounds it
            self.text += line
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"the demo ended without {pattern!r}:\n{self.text}")

    def end(self, number: signal.Signals | None = None) -> int:
        """Sends a signal, if there is one to send; returns the exit code."""
        if number is not None:
            self.process.send_signal(number)
        self.text += self.process.communicate(timeout=120)[0]
        return self.process.returncode

    def left_over(self) -> list[Any]:
        """Returns processes that know of the demo's folder, and temporary files."""
        lines = {each.pid: " ".join(each.info["cmdline"] or ()) for each in psutil.process_iter(["cmdline"])}
        return [line for line in lines.values() if str(self.folder) in line] + list(self.temporary.iterdir())


@contextmanager
def demo(folder: Path, *options: str) -> Iterator[Demo]:
    found = Demo(folder, *options)
    try:
        yield found
    finally:
        if found.process.poll() is None:
            found.end(signal.SIGTERM)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The first run, from nothing, to its end."""
    with demo(tmp_path_factory.mktemp("demo") / "made") as run:
        code = run.end()
        assert code == 0, run.text
        return run


@pytest.fixture(scope="module")
def second(first: Demo) -> Iterator[Demo]:
    """The second run in the same folder, kept running."""
    with demo(first.folder, "--keep") as run:
        run.read_until("Ctrl-C ends it")
        yield run


@pytest.fixture(scope="module")
def activations(first: Demo) -> dict[str, np.ndarray]:
    """What the Flax module itself returns for all images, by site, in execution order."""
    recipe, images = Recipe(), Dataset.read(first.folder).images
    network = build(recipe.model_config["config"])
    like = jax.eval_shape(network.init, jax.random.key(0), images[:1])["params"]
    step = Record.read(first.folder, recipe).steps[-1]
    with ocp.CheckpointManager(first.folder / "digits", item_names=("params", "config")) as checkpoints:
        stored = checkpoints.restore(step, args=ocp.args.Composite(params=ocp.args.StandardRestore(like)))
    _, values = network.apply({"params": stored["params"]}, images, return_activations=True)
    hidden = range(len(recipe.hidden_sizes))
    sites = [site for k in hidden for site in (f"Dense_{k}", f"relu:{k}")] + [f"Dense_{len(recipe.hidden_sizes)}"]
    return dict(zip(sites, map(np.asarray, values), strict=True))


def test_first_run_trains_serves_predicts_and_looks_inside(first: Demo) -> None:
    accuracy = re.search(r"It names (\S+)% of the 360 test images rightly", first.text)
    assert accuracy
    assert float(accuracy[1]) >= 95
    assert Record.read(first.folder, Recipe()).accuracy >= 0.95
    # The served network is as good as the trained one was.
    assert re.search(rf"imported\.\)\s+It\s+names\s+{accuracy[1]}%", first.text)
    assert re.findall(r"^(\d)\. ", first.text, re.MULTILINE) == list("1234567")
    assert re.findall(r" (\d) +\d+\.\d%(?:  █+)?$", first.text, re.MULTILINE) == list("0123456789")
    assert "the program was held already" in first.text
    assert re.search(
        r'^    fluoroscope_stage_seconds_count\{method="Predict",stage="compute"\} 52\.0$', first.text, re.MULTILINE
    )


def test_the_readme_shows_what_it_prints(first: Demo) -> None:
    def loose(text: str) -> str:
        numbers = re.sub(r"(?<![\w:.])-?\d[\d.,]*", "0", text)  # but not the number in a site's name
        return re.sub(r"[ █▓▒░]+", " ", numbers)

    (shown,) = re.findall(r"^\$ make demo\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    printed = {loose(line) for line in first.text.splitlines()}
    assert [line for line in shown.splitlines() if line != "..." and loose(line) not in printed] == []


def test_nothing_is_left_but_the_folder(first: Demo) -> None:
    assert first.left_over() == []
    assert {each.name for each in first.folder.iterdir()} == LEFT


def test_it_fits_a_hundred_columns_and_is_plain(first: Demo) -> None:
    # The paths of the environment are what they are; all others are short here, as they are for `make demo`.
    lines = [line for line in first.text.splitlines() if sys.prefix not in line and str(ROOT) not in line]
    assert len(lines) > 80
    assert [line for line in lines if len(line) > 100 or line != line.rstrip()] == []
    assert "\x1b" not in first.text


def test_table_has_the_numbers_of_the_flax_module(first: Demo, activations: dict[str, np.ndarray]) -> None:
    rows = {site: tuple(map(float, numbers)) for site, *numbers in ROW.findall(first.text)}
    assert list(rows) == list(activations)
    for site, values in activations.items():
        flat = values.astype(np.float64)
        dead = (values == 0).all(axis=0).sum()
        expected = (values.shape[1], flat.mean(), flat.var(), 100 * (values == 0).mean(), dead)
        # As printed: whole numbers, four digits behind the point, one digit for per cents.
        for found, exact, digits in zip(rows[site], expected, (0, 4, 4, 1, 0), strict=True):
            assert found == pytest.approx(exact, rel=1e-5, abs=0.5001 * 10**-digits if digits else 0), site


def test_streamed_statistics_are_those_of_the_flax_module(second: Demo, activations: dict[str, np.ndarray]) -> None:
    layers = measured(second)
    assert list(layers) == list(activations)
    for site, values in activations.items():
        layer = layers[site]
        np.testing.assert_allclose(layer.mean, values.mean(dtype=np.float64), rtol=1e-5)
        np.testing.assert_allclose(layer.variance, values.astype(np.float64).var(), rtol=1e-5)
        # A value next to zero may fall on either side of it, depending on how a sum was ordered.
        np.testing.assert_allclose(layer.zero_fraction, (values == 0).mean(), rtol=0, atol=3 / values.size)
        assert (layer.units, layer.dead_units) == (values.shape[1], (values == 0).all(axis=0).sum())


def measured(run: Demo) -> dict[str, Layer]:
    (address,) = re.findall(r"FLUOROSCOPE_SERVER=(\S+)", run.text)
    images = Dataset.read(run.folder).images
    with fluoroscope.Client(address) as client:
        *_, (done, layers) = measure(client, "digits", images, sites=SITES, batch_size=Recipe().buckets[-1])
    assert done == len(images) == 1797
    return layers


def test_second_run_takes_what_the_first_one_made(first: Demo, second: Demo) -> None:
    assert "nothing to train" in " ".join(second.text.split())
    assert "train.py" not in second.text
    assert ROW.findall(second.text) == ROW.findall(first.text)


def test_commands_to_try_next_work(second: Demo) -> None:
    commands = re.findall(r"^    ((?:\.|export|fluoroscope) .*)$", second.text.partition("Try next")[2], re.MULTILINE)
    assert len(commands) == 13
    run = subprocess.run(
        ["bash", "-ec", "\n".join(commands)], capture_output=True, text=True, cwd=second.folder.parent, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "base_network" in run.stdout
    assert "relu:3" in run.stdout
    assert "1797 x 512    512    20" in run.stdout
    assert "params/Dense_4/kernel" in run.stdout
    assert "these are gradients of logits" in run.stderr
    with np.load(second.folder / "relu.npz") as arrays:
        assert arrays["relu:0"].shape == (1, 512)
    (second.folder / "relu.npz").unlink()


def test_ctrl_c_ends_it_with_130_and_leaves_nothing(second: Demo) -> None:
    (server,) = psutil.Process(second.process.pid).children()
    assert second.end(signal.SIGINT) == 130
    assert "Nothing is left running" in second.text
    assert not server.is_running()
    assert second.left_over() == []


def test_sigterm_while_it_trains_anew_leaves_nothing(first: Demo) -> None:
    damaged = first.folder.parent / "damaged"
    damaged.mkdir()
    for name in ("made-by-make-demo.txt", "trained.json"):
        (damaged / name).write_bytes((first.folder / name).read_bytes())
    with demo(damaged) as run:
        run.read_until("starting; to import JAX")
        assert "is missing. Training again." in " ".join(run.text.split())
        assert run.end(signal.SIGTERM) == 128 + signal.SIGTERM
    assert run.left_over() == []
    assert [each.name for each in damaged.iterdir()] == ["made-by-make-demo.txt"]


def test_a_folder_of_somebody_elses_is_not_touched(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "thesis.txt").write_text("chapter 1")
    with demo(theirs) as run:
        assert run.end() == 1
    assert "is not empty, and not the demo's" in " ".join(run.text.split())
    assert [each.name for each in theirs.iterdir()] == ["thesis.txt"]


def test_the_demos_own_side_imports_no_jax() -> None:
    script = "import sys, demo; print(sorted({'jax', 'flax', 'orbax', 'sklearn'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=EXAMPLE, check=True)
    assert run.stdout == "[]\n"
