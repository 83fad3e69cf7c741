"""Edits as words of the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fluoroscope.cli.edit import EDITS
from fluoroscope.wire import decode_tensor

if TYPE_CHECKING:
    from pathlib import Path

    from tests.client.cli.conftest import Run
    from tests.client.fake_server import FakeServer

X = "image=[[[1],[-2]],[[3],[0.5]]]"
WORDS = [line.split()[0] for line in EDITS.splitlines()[1:8]]


def test_every_edit_of_the_help_is_understood(run: Run, server: FakeServer, tmp_path: Path) -> None:
    np.save(tmp_path / "steer.npy", np.array([1, 2], np.float32))
    edits = [
        "zero relu:0 units=3,-7 rows=0",
        "set Dense_0 'Dense 1' to=0.5",
        f"add Dense_0 by=@{tmp_path}/steer.npy slice=0:0:1 slice=-1::2 kind=module,named",
        "scale Dense_? by=[[2]]",
        "mean **",
        "patch head row=1,0",
        f"patch head {X}",
    ]
    assert [edit.split()[0] for edit in edits] == WORDS
    result = run("inspect", "digits", X, *(word for edit in edits for word in ("--edit", edit)), "--json")

    assert result.exit_code == 0, result.stderr
    zero, given, add, scale, mean, row, inputs = server.requests[-1].edits
    assert (zero.WhichOneof("change"), zero.sites, zero.units, zero.rows) == ("zero", ["relu:0"], [3, -7], [0])
    assert (given.sites, decode_tensor(given.set.value).item()) == (["Dense_0", "Dense 1"], 0.5)
    assert [(cut.axis, cut.HasField("start"), cut.stop) for cut in add.slices] == [(0, True, 1), (-1, False, 2)]
    assert (list(decode_tensor(add.add.value)), len(add.kinds)) == ([1, 2], 2)
    assert decode_tensor(scale.scale.factor).tolist() == [[2]]
    assert (mean.WhichOneof("change"), list(row.patch_from_row.rows)) == ("mean_ablate", [1, 0])
    assert decode_tensor(inputs.patch_from_inputs.inputs["image"]).shape == (1, 2, 2, 1)


def test_a_plan_reads_no_inputs(run: Run, server: FakeServer) -> None:
    result = run("plan", "digits", "--edit", "patch head image=@nowhere.npy", "--json")

    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["model"] == "digits"
    assert server.requests[-1].inspection.edits[0].WhichOneof("change") == "patch_from_inputs"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ("", "an edit begins with zero, set"),
        ("blank Dense_0", "an edit begins with zero, set"),
        ("'zero", "No closing quotation"),
        ("zero", "it names no site, such as in 'zero Dense_1'"),
        ("zero Dense_0 by=3", "zero knows no by"),
        ("scale Dense_0", "it does not say what to write: give by=VALUE"),
        ("scale Dense_0 by=much", "neither .npy, .npz, an image, nor JSON"),
        ("add Dense_0 by=@nowhere.npy", "nowhere.npy cannot be read: No such file or directory;"),
        ("patch Dense_0", "give row=0, or INPUT=VALUE"),
        ("patch Dense_0 row=0 image=@x.npy", "give row=0, or INPUT=VALUE"),
        ("zero Dense_0 units=a", "'a' are no whole numbers"),
        ("zero Dense_0 slice=1", "is not AXIS:START:STOP"),
        ("zero Dense_0 kind=layer", "the kinds that there are"),
    ],
)
def test_wrong_words(run: Run, edit: str, message: str) -> None:
    result = run("inspect", "digits", X, "--edit", edit)

    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert not result.stderr.endswith("..\n")


def test_no_edits_over_a_data_set(run: Run) -> None:
    result = run("inspect", "digits", "--dataset", "x.npy", "--edit", "zero head")

    assert result.exit_code == 2
    assert "leave out --edit" in result.stderr
