"""Folders of steps, single checkpoints, and everything that is neither."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orbax.checkpoint as ocp
import pytest

from fluoroscope_server.checkpoints.layout import locate, steps, uncommitted
from fluoroscope_server.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def series(tmp_path: Path, variables: dict[str, Any]) -> Path:
    folder = tmp_path / "series"
    with ocp.CheckpointManager(folder) as manager:
        for step in (3, 20, 100):
            manager.save(step, args=ocp.args.StandardSave(variables))
    return folder


def refusal(path: Path, step: int | None = None) -> str:
    with pytest.raises(CheckpointError) as refused:
        locate(path, step)
    return refused.value.message


def test_newest_step_is_taken_by_number(series: Path) -> None:
    place = locate(series, None)
    assert (place.step, place.folder.name, place.is_series) == (100, "100", True)
    assert str(place) == f"checkpoint '{series}', step 100"


def test_asked_step_is_taken(series: Path) -> None:
    assert locate(series, 20).folder == series / "20"


def test_steps_ascend(series: Path) -> None:
    assert steps(series) == [3, 20, 100]


def test_missing_step_lists_those_present(series: Path) -> None:
    assert refusal(series, 21) == f"checkpoint '{series}' has no committed step 21; it has 3, 20, 100"


def test_step_names_with_prefix_and_zeros(tmp_path: Path, variables: dict[str, Any]) -> None:
    options = ocp.CheckpointManagerOptions(step_prefix="model", step_format_fixed_length=8)
    with ocp.CheckpointManager(tmp_path / "series", options=options) as manager:
        manager.save(7, args=ocp.args.StandardSave(variables))
    assert locate(tmp_path / "series", None).folder.name == "model_00000007"
    assert steps(tmp_path / "series") == [7]


@pytest.mark.parametrize(
    ("name", "found"),
    [("9" * 18, 10**18 - 1), ("9" * 19, None), ("run_" + "9" * 100, None), ("0" * 30 + "7", 7)],
)
def test_a_number_that_no_version_can_be_is_no_step(series: Path, name: str, found: int | None) -> None:
    renamed = (series / "100").rename(series / name)
    assert steps(series) == sorted([3, 20, *([] if found is None else [found])])
    assert steps(renamed) == [found or 0]


def test_empty_folder_of_a_step_is_no_step(series: Path) -> None:
    (series / "200").mkdir()
    assert steps(series) == [3, 20, 100]
    assert locate(series, None).step == 100


def test_temporary_folder_is_no_step(series: Path) -> None:
    shutil.copytree(series / "100", series / "300.orbax-checkpoint-tmp-17")
    assert steps(series) == [3, 20, 100]


def test_save_under_its_final_name_is_no_step_until_committed(series: Path) -> None:
    metadata = series / "100" / "_CHECKPOINT_METADATA"
    metadata.write_text(json.dumps(json.loads(metadata.read_text()) | {"commit_timestamp_nsecs": None}))
    (series / "100" / "commit_success.txt").unlink(missing_ok=True)
    assert steps(series) == [3, 20]
    (series / "100" / "commit_success.txt").touch()
    assert steps(series) == [3, 20, 100]


def test_step_without_its_items_is_no_step(series: Path) -> None:
    shutil.rmtree(series / "100" / "default")
    assert steps(series) == [3, 20]


def test_step_deleted_while_it_is_listed(series: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = Path.iterdir

    def vanish(folder: Path) -> Iterator[Path]:
        if folder.name == "3":
            shutil.rmtree(folder)
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", vanish)
    assert steps(series) == [20, 100]


def test_what_cannot_be_read_in_one_step_hides_no_other(series: Path) -> None:
    """A name that is too long stands for what is another user's: nobody can follow it, not even root."""
    metadata = series / "20" / "default" / "_METADATA"
    metadata.unlink()
    metadata.symlink_to("x" * 300)
    (series / "200").symlink_to("x" * 300)
    assert steps(series) == [3, 20, 100, 200]
    (series / "lost+found").symlink_to("x" * 300)
    assert uncommitted(series) == []


@pytest.mark.parametrize("text", ["[" * 200_000, "", "\xff"])
def test_step_whose_description_is_no_json(series: Path, text: str) -> None:
    (series / "100" / "_CHECKPOINT_METADATA").write_text(text, encoding="latin-1")
    (series / "100" / "commit_success.txt").unlink(missing_ok=True)
    assert steps(series) == [3, 20, 100]


def test_only_unfinished_steps(series: Path) -> None:
    for step in ("3", "20"):
        shutil.rmtree(series / step)
    (series / "100").rename(series / "100.orbax-checkpoint-tmp-5")
    (series / "200").mkdir()
    message = refusal(series)
    assert "no committed step" in message
    assert "100.orbax-checkpoint-tmp-5, 200" in message
    assert steps(series) == []


def test_single_checkpoint_has_step_zero(saved: Path) -> None:
    place = locate(saved, None)
    assert (place.step, place.is_series, str(place)) == (0, False, f"checkpoint '{saved}'")
    assert steps(saved) == [0]
    assert locate(saved, 0).folder == saved


def test_step_of_a_single_checkpoint(saved: Path) -> None:
    assert "is one checkpoint (step 0), not a series with a step 5" in refusal(saved, 5)


def test_folder_of_one_step_keeps_its_number(series: Path) -> None:
    assert locate(series / "20", None).step == 20
    assert steps(series / "20") == [20]


def test_temporary_folder_given_by_name(series: Path) -> None:
    (series / "100").rename(series / "100.orbax-checkpoint-tmp-5")
    assert "a save that has not ended" in refusal(series / "100.orbax-checkpoint-tmp-5")
    assert steps(series / "100.orbax-checkpoint-tmp-5") == []


def test_missing_folder(tmp_path: Path) -> None:
    assert "there is no such folder" in refusal(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="there is no such folder"):
        steps(tmp_path / "nowhere")


def test_bucket() -> None:
    assert "mount the bucket" in refusal(Path("gs://bucket/run"))


def test_file(tmp_path: Path) -> None:
    (tmp_path / "model.msgpack").touch()
    assert "it is a file" in refusal(tmp_path / "model.msgpack")


def test_empty_folder(tmp_path: Path) -> None:
    assert "an empty folder" in refusal(tmp_path)
    assert steps(tmp_path) == []


def test_folder_of_another_format(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (tmp_path / name).touch()
    message = refusal(tmp_path)
    assert "is not an Orbax checkpoint" in message
    assert "config.json, model.safetensors, tokenizer.json" in message


def test_folder_above_checkpoints_names_them(tmp_path: Path, series: Path) -> None:
    assert "give one of them: series" in refusal(tmp_path)
    series.rename(tmp_path / "run_2")  # the name of a run may look like the name of a step
    assert "give one of them: run_2" in refusal(tmp_path)


def test_long_listings_are_cut(tmp_path: Path) -> None:
    for index in range(30):
        (tmp_path / f"{index:02}.txt").touch()
    assert "07.txt and 22 more" in refusal(tmp_path)


def test_folder_that_cannot_be_listed(series: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", deny)
    assert refusal(series) == f"checkpoint '{series}' cannot be listed: Permission denied"
    with pytest.raises(CheckpointError, match="Permission denied"):
        steps(series)
