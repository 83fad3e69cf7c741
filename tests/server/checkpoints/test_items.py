"""Which item of a checkpoint is the weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from fluoroscope_server.checkpoints.items import ItemKind, choose_item, items_of
from fluoroscope_server.checkpoints.place import Place
from fluoroscope_server.errors import CheckpointError


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(path=Path("run"), folder=tmp_path, step=4, is_series=True)


def write(place: Place, **items: str) -> None:
    for item, file in items.items():
        (place.folder / item).mkdir()
        (place.folder / item / file).touch()


def refusal(place: Place, name: str | None = None) -> str:
    with pytest.raises(CheckpointError) as refused:
        choose_item(place, name)
    return refused.value.message


def test_kinds(place: Place) -> None:
    write(place, a="_METADATA", b="manifest.ocdbt", c="metadata", d="data.json", e="iterator.bin")
    (place.folder / "b" / "manifest.ocdbt").unlink()
    (place.folder / "b" / "params.w").mkdir()
    (place.folder / "b" / "params.w" / ".zarray").touch()  # the oldest layout
    (place.folder / "f.orbax-checkpoint-tmp").mkdir()
    kinds = [ItemKind.ARRAYS, ItemKind.HEADLESS, ItemKind.JSON, ItemKind.JSON, None]
    assert list(items_of(place.folder).items()) == list(zip("abcde", kinds, strict=True))


def test_only_tree_is_taken_whatever_its_name(place: Place) -> None:
    write(place, transformer="_METADATA", metrics="metadata", iterator="state.bin")
    assert choose_item(place, None) == place.folder / "transformer"


@pytest.mark.parametrize("name", ["params", "model_params", "default", "state", "items"])
def test_usual_name_is_preferred(place: Place, name: str) -> None:
    write(place, **{"a_first": "_METADATA", name: "_METADATA", "optimizer_state": "_METADATA"})
    assert choose_item(place, None) == place.folder / name


def test_config_is_never_the_weights(place: Place) -> None:
    write(place, config="_METADATA", network="_METADATA")
    assert choose_item(place, None) == place.folder / "network"


def test_several_trees(place: Place) -> None:
    write(place, teacher="_METADATA", student="_METADATA")
    assert refusal(place) == (
        "checkpoint 'run', step 4 has several items that could be the weights: student, teacher. "
        "Name the right one with `item`"
    )
    assert choose_item(place, "teacher") == place.folder / "teacher"


def test_no_tree_lists_what_is_there(place: Place) -> None:
    write(place, config="metadata", iterator="state.bin")
    assert "no item that holds arrays; it has config (JSON), iterator (unknown)" in refusal(place)


def test_no_items(place: Place) -> None:
    assert "it has no items at all" in refusal(place)


def test_wrong_item_lists_those_present(place: Place) -> None:
    write(place, state="_METADATA", config="metadata")
    assert refusal(place, "params") == (
        "checkpoint 'run', step 4 has no item 'params'; it has config (JSON), state (a tree of arrays)"
    )


def test_item_that_is_not_weights(place: Place) -> None:
    write(place, state="_METADATA", config="metadata")
    assert "item 'config', holds JSON, not weights" in refusal(place, "config")


@pytest.mark.parametrize("name", [None, "state"])
def test_tree_without_its_metadata(place: Place, name: str | None) -> None:
    write(place, state="manifest.ocdbt")
    assert "item 'state', has arrays but no _METADATA" in refusal(place, name)


def test_folder_that_is_the_tree_itself(place: Place) -> None:
    (place.folder / "_METADATA").touch()
    assert choose_item(place, None) == place.folder


def test_item_of_a_folder_that_is_the_tree_itself(place: Place) -> None:
    (place.folder / "_METADATA").touch()
    write(place, d="0123")
    assert "has no item 'state'; it has d (unknown)" in refusal(place, "state")
