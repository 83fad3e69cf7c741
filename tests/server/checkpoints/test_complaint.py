"""What Orbax and TensorStore throw, and what an operator reads."""

from __future__ import annotations

import gc
import logging
import shutil
import sys
from typing import TYPE_CHECKING, Any

import jax
import pytest

from fluoroscope_server.checkpoints import open_checkpoint
from fluoroscope_server.checkpoints.complaint import translated
from fluoroscope_server.errors import CheckpointError, ModelError, OutOfMemoryError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Save = Callable[[Any], Path]


def complaint(path: Path, tree: Any) -> str:
    with pytest.raises(CheckpointError) as refused:
        open_checkpoint(path).restore(jax.eval_shape(lambda: tree))
    assert "\n" not in refused.value.message
    assert len(refused.value.message) < 400
    return refused.value.message.replace(str(path), "PATH")


def largest_data_file(path: Path) -> Path:
    return max((path / "d").iterdir(), key=lambda file: file.stat().st_size)


def test_missing_chunk_names_the_leaf_and_the_file(save_files: Save, variables: dict[str, Any]) -> None:
    path = save_files(variables)
    (path / "params.Dense_0.kernel" / "0.0").unlink()
    assert complaint(path, variables) == (
        "checkpoint 'PATH' cannot be read: the data is missing: leaf 'params/Dense_0/kernel' "
        "(file 'params.Dense_0.kernel/0.0'). The copy is incomplete or was deleted: copy it again, "
        "or serve another step"
    )


def test_damaged_chunk_names_the_leaf_and_the_file(save_files: Save, variables: dict[str, Any]) -> None:
    path = save_files(variables)
    (path / "params.Dense_0.kernel" / "0.0").write_bytes(b"no zstd")
    assert complaint(path, variables) == (
        "checkpoint 'PATH' cannot be read: the data is damaged or cut short: leaf 'params/Dense_0/kernel' "
        "(file 'params.Dense_0.kernel/0.0'). Copy it again, or serve another step"
    )


def test_missing_leaf(save_files: Save, variables: dict[str, Any]) -> None:
    path = save_files(variables)
    shutil.rmtree(path / "params.Dense_0.kernel")
    assert "the data is missing (file 'params.Dense_0.kernel/.zarray')" in complaint(path, variables)


@pytest.mark.parametrize("damage", [lambda data: data[:100], lambda data: bytes(len(data))])
def test_damaged_data_file(saved: Path, variables: dict[str, Any], damage: Callable[[bytes], bytes]) -> None:
    file = largest_data_file(saved)
    file.write_bytes(damage(file.read_bytes()))
    assert f"the data is damaged or cut short (file 'd/{file.name}')" in complaint(saved, variables)


def test_damaged_manifest(saved: Path, variables: dict[str, Any]) -> None:
    (saved / "manifest.ocdbt").write_bytes((saved / "manifest.ocdbt").read_bytes()[:20])
    assert "the data is damaged or cut short (file 'manifest.ocdbt')" in complaint(saved, variables)


@pytest.mark.parametrize(
    "text", ["dummy", "{}", "[]", '{"tree_metadata": 3}', "[" * 200_000, "\xff"], ids=lambda text: text[:12]
)
def test_metadata_that_is_not_orbax(saved: Path, variables: dict[str, Any], text: str) -> None:
    (saved / "_METADATA").write_text(text, encoding="latin-1")
    assert "the description of the tree is not what Orbax writes" in complaint(saved, variables)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (MemoryError(), "the data does not fit"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes"), "the data does not fit"),
        (PermissionError(13, "denied"), "may not be read by this user"),
        (ValueError("PERMISSION_DENIED: Error opening"), "may not be read by this user"),
        (Exception("spec " * 1000), "the data cannot be read (Exception)"),
    ],
)
def test_reasons(tmp_path: Path, error: Exception, text: str) -> None:
    with pytest.raises(ModelError) as refused, translated("checkpoint 'run'", tmp_path):
        raise error
    assert isinstance(refused.value, OutOfMemoryError if "not fit" in text else CheckpointError)
    assert text in refused.value.message
    assert len(refused.value.message) < 200


def test_leaf_at_fault_is_found_by_its_whole_name(tmp_path: Path) -> None:
    error = ValueError('NOT_FOUND: "params.w.scale/.zarray" in database')
    leaves = ["scale", "w/scale", "params/w/scale", "params/w"]
    with pytest.raises(CheckpointError, match="leaf 'params/w/scale'"), translated("x", tmp_path, leaves):
        raise error


def test_own_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"^mine$"), translated("x", tmp_path):
        raise CheckpointError("mine")


def test_original_is_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(CheckpointError), translated("x", tmp_path):
        raise ValueError("what TensorStore said")
    assert "what TensorStore said" in caplog.text
    assert all(record.levelno == logging.DEBUG for record in caplog.records)


def test_failed_reads_leave_nothing_behind(
    save_files: Save, variables: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    unraisable: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    path = save_files(variables)
    for chunk in path.glob("*/[0-9]*"):
        chunk.unlink()
    for _ in range(5):
        complaint(path, variables)
    shutil.rmtree(path / "params.Dense_0.kernel")
    for _ in range(5):
        complaint(path, variables)
    gc.collect()
    assert unraisable == []
    assert "Traceback" not in capfd.readouterr().err
