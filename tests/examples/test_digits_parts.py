from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples" / "digits"))  # a folder of scripts

from child import running
from interruption import InterruptedBySignal, Interruption
from layers import Layer
from recipe import Recipe
from record import NotWholeError, Record
from scrape import Scrape
from show import Page

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = """# HELP fluoroscope_stage_seconds Time that one stage of a request took.
# TYPE fluoroscope_stage_seconds histogram
fluoroscope_stage_seconds_bucket{le="+Inf",method="Predict",stage="decode"} 4.0
fluoroscope_stage_seconds_count{method="Predict",stage="decode"} 4.0
fluoroscope_stage_seconds_sum{method="Predict",stage="decode"} 0.002
fluoroscope_stage_seconds_count{method="Predict",stage="encode"} 0.0
fluoroscope_stage_seconds_sum{method="Predict",stage="encode"} 0.0
process_open_fds 31.0
"""


def test_layer_is_right_whatever_the_batches() -> None:
    values = np.random.default_rng(3).normal(1000, 0.5, (37, 4, 3)).astype(np.float32)
    values[:, 0, 1] = 0
    values[5, 1] = 0
    layer = Layer("relu:0", (4, 3))
    for part in np.split(values, [1, 9, 9 + 20]):
        layer.add(part)
    assert layer.units == 12
    assert layer.dead_units == 1
    assert layer.zero_fraction == (values == 0).mean()
    np.testing.assert_allclose(layer.mean, values.mean(dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(layer.variance, values.astype(np.float64).var(), rtol=1e-12)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "weights").write_bytes(b"weights")
    Record.of(tmp_path, Recipe(), accuracy=0.98, steps=[1]).write(tmp_path)
    return tmp_path


def test_a_whole_folder_gives_its_record(folder: Path) -> None:
    (folder / "digit.npy").write_bytes(b"not recorded, and of no concern")
    record = Record.read(folder, Recipe())
    assert (record.accuracy, record.steps, list(record.files)) == (0.98, [1], ["digits/weights"])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / "digits/weights").write_bytes(b"weight?"), "digits/weights is damaged"),
        (lambda folder: (folder / "digits/weights").unlink(), "digits/weights is missing"),
        (lambda folder: (folder / "trained.json").write_text('{"recipe": '), "trained.json cannot be read"),
        (lambda folder: (folder / "trained.json").write_text("{}"), "trained.json cannot be read"),
        (lambda folder: (folder / "trained.json").write_text("[]"), "trained.json cannot be read"),
        (lambda folder: (folder / "trained.json").unlink(), "no training has ended there"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(folder: Path, damage: Callable[[Path], object], reason: str) -> None:
    damage(folder)
    with pytest.raises(NotWholeError, match=reason):
        Record.read(folder, Recipe())


def test_a_folder_of_another_recipe_is_refused(folder: Path) -> None:
    with pytest.raises(NotWholeError, match="another recipe"):
        Record.read(folder, Recipe(epochs=5))


def test_stages_are_means_of_those_that_ran() -> None:
    scrape = Scrape(PAGE)
    assert scrape.stages("Predict") == {"decode": 0.0005}
    assert [sample.value for sample in scrape.named("process_open_fds")] == [31.0]
    assert [sample.line for sample in scrape.named("fluoroscope_stage_seconds_sum", stage="decode")] == [
        'fluoroscope_stage_seconds_sum{method="Predict",stage="decode"} 0.002'
    ]


def test_a_child_ends_with_its_block_even_if_it_will_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("child.PATIENCE", 0.1)
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"
    with Interruption() as interruption:
        with running([sys.executable, "-c", deaf], interruption) as child:
            assert next(child.lines()) == "deaf"
        assert child.exit_code() == -signal.SIGKILL


def test_a_childs_lines_end_when_it_does() -> None:
    words = [sys.executable, "-c", "import sys; print('out'); sys.stdout.flush(); sys.exit('err')"]
    with Interruption() as interruption, running(words, interruption) as child:
        assert list(child.lines()) == ["out", "err"]
        assert child.exit_code() == 1


def test_a_signal_waits_until_it_is_not_held_and_later_ones_are_ignored() -> None:
    reached = []

    def work() -> None:
        with Interruption() as interruption:
            try:
                with interruption.held():
                    os.kill(os.getpid(), signal.SIGTERM)
                    os.kill(os.getpid(), signal.SIGINT)
                    reached.append("the end of the block")
                reached.append("nothing behind it")
            finally:
                os.kill(os.getpid(), signal.SIGINT)
                reached.append("the end of the cleaning")

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(InterruptedBySignal) as raised:
        work()
    assert raised.value.exit_code == 128 + signal.SIGTERM
    assert reached == ["the end of the block", "the end of the cleaning"]
    assert signal.getsignal(signal.SIGINT) is before


def test_where_there_are_no_block_characters_the_page_does_without() -> None:
    script = """import numpy as np; from show import Page; from interruption import Interruption
page = Page(Interruption()); page.picture(np.eye(2), [page.bar(0.1)])"""
    run = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(sys.modules[Page.__module__].__file__ or "").parent,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split() == ["##", "###", "##"]
