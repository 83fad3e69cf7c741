"""Sealing and verifying real checkpoints: whatever happens to a sealed one is noticed, and Orbax minds no seal."""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluoroscope_server.checkpoints import open_checkpoint, seal, steps, uncommitted, unsealed_steps, verify
from fluoroscope_server.errors import CheckpointError, DamagedError, UnsealedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def items(value: float) -> Any:
    tree = {"kernel": jnp.full((8, 8), value), "bias": jnp.full(8, value)}
    return ocp.args.Composite(params=ocp.args.StandardSave(tree), config=ocp.args.JsonSave({"family": "base_network"}))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A series of one step, sealed."""
    path = tmp_path_factory.mktemp("series") / "run"
    with ocp.CheckpointManager(path) as manager:
        manager.save(20, args=items(1.0))
    assert not seal(path).sealed
    return path


@pytest.fixture
def run(original: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return shutil.copytree(original, tmp_path / "run")


@pytest.fixture(scope="module")
def breakable(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of it whose files are damaged and mended again."""
    return shutil.copytree(original, tmp_path_factory.mktemp("breakable") / "run")


def files_of(run: Path) -> list[Path]:
    return sorted(path for path in (run / "20").rglob("*") if path.is_file())


def assert_refused(run: Path, file: Path, what: str) -> None:
    with pytest.raises(DamagedError) as refused:
        verify(run)
    name = file.relative_to(run / "20").as_posix()
    assert f"step 20 is not what was sealed: file {name!r} {what}" in refused.value.message
    assert refused.value.reason == "DAMAGED"


def test_a_sealed_step_that_nobody_touched(run: Path) -> None:
    """A copy is the same checkpoint: times and places do not count."""
    verified = verify(run, require_seal=True)
    assert (verified.sealed, verified.place.step) == (True, 20)
    assert len(verified.content.files) == len(files_of(run)) > 8
    assert verified.content.digest == verify(run / "20").content.digest
    verified.confirm()


def test_a_bit_is_flipped_in_every_file(breakable: Path) -> None:
    generator = np.random.default_rng(0)
    damaged = 0
    for file in files_of(breakable):
        whole = file.read_bytes()
        if not whole:
            continue
        data = bytearray(whole)
        data[generator.integers(len(data))] ^= 1 << generator.integers(8)
        file.write_bytes(data)
        assert_refused(breakable, file, "has other bytes")
        file.write_bytes(whole)
        damaged += 1
    assert damaged > 8
    assert verify(breakable).sealed


@settings(max_examples=40)
@given(data=st.data())
def test_any_bit_is_flipped_in_any_file(breakable: Path, data: st.DataObject) -> None:
    file = data.draw(st.sampled_from([file for file in files_of(breakable) if file.stat().st_size]))
    whole = file.read_bytes()
    bits = bytearray(whole)
    bits[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(bits)
    try:
        assert_refused(breakable, file, "has other bytes")
    finally:
        file.write_bytes(whole)


def test_files_cut_short_emptied_and_gone(run: Path) -> None:
    for file in files_of(run):
        whole = file.read_bytes()
        for size in {len(whole) // 2, 0} - {len(whole)}:
            file.write_bytes(whole[:size])
            assert_refused(run, file, f"has {size} bytes instead of {len(whole)}")
        file.unlink()
        assert_refused(run, file, "is missing")
        file.write_bytes(whole)
    assert verify(run).sealed


def test_a_file_more(run: Path) -> None:
    more = run / "20" / "params" / "d" / "more"
    more.write_text("")
    assert_refused(run, more, "was not there")


def test_a_link_that_leads_elsewhere(run: Path) -> None:
    """The files are the same, and another item has the name."""
    link = run / "20" / "weights"
    link.symlink_to("params")
    with pytest.raises(DamagedError, match="step 20 is not what was sealed: link 'weights' was not there"):
        verify(run)
    (run / "20.fluoroscope.json").unlink()
    digest = seal(run).content.digest
    verified = verify(run, require_seal=True)
    assert verified.content.digest == digest
    link.unlink()
    link.symlink_to("config")
    with pytest.raises(CheckpointError, match=r"step 20 was changed while it was read \(file 'weights'\)"):
        verified.confirm()
    with pytest.raises(DamagedError, match="link 'weights' leads to 'config' instead of 'params'"):
        verify(run)
    link.unlink()
    with pytest.raises(DamagedError, match="link 'weights' is missing"):
        verify(run)


def test_half_copied_and_empty_steps(run: Path) -> None:
    """What is no checkpoint at all is not taken for the newest one; what is half of one is refused."""
    shutil.copytree(run / "20" / "config", run / "30" / "config")
    (run / "40").mkdir()
    assert steps(run) == [20]
    shutil.rmtree(run / "20" / "params" / "ocdbt.process_0")
    with pytest.raises(DamagedError, match=r"file 'params/ocdbt\.process_0/d/.*' is missing"):
        verify(run)


def test_the_operators_file_is_not_sealed(run: Path) -> None:
    (run / "20" / "model.toml").write_text("")
    assert verify(run / "20").sealed


# --- without a seal


def test_a_step_without_a_seal(run: Path) -> None:
    digest = verify(run).content.digest
    (run / "20.fluoroscope.json").unlink()
    verified = verify(run)
    assert (verified.sealed, verified.content.digest) == (False, digest)
    with pytest.raises(UnsealedError, match=r"step 20 is not sealed, .*: fluoroscope-server seal \S+run 20$"):
        verify(run, require_seal=True)
    assert unsealed_steps(run) == [20]
    named = run.rename(run.with_name("two words"))
    with pytest.raises(UnsealedError, match=r"fluoroscope-server seal '\S+two words' 20$"):
        verify(named, require_seal=True)


# --- what changes between the moments when it is verified and when it is used


@pytest.mark.parametrize("change", ["rewrite", "replace", "add", "delete"])
def test_a_change_after_it_was_verified(run: Path, change: str) -> None:
    verified = verify(run)
    file = run / "20" / "params" / "manifest.ocdbt"
    if change == "rewrite":
        file.write_bytes(file.read_bytes())
    elif change == "replace":
        shutil.copy2(file, run / "other")
        (run / "other").rename(file)
    elif change == "add":
        (file.parent / "more").write_text("")
    else:
        file.unlink()
    with pytest.raises(CheckpointError, match=r"step 20 was changed while it was read \(file 'params/m"):
        verified.confirm()


def test_a_step_deleted_after_it_was_verified(run: Path) -> None:
    verified = verify(run)
    shutil.rmtree(run / "20")
    with pytest.raises(CheckpointError, match="step 20 was deleted while it was read; serve another step"):
        verified.confirm()


# --- sealing


def test_sealing_again_compares(run: Path) -> None:
    before = (run / "20.fluoroscope.json").read_bytes()
    assert seal(run).sealed
    (run / "20" / "config" / "metadata").write_text('{"family": "other_network"}')
    with pytest.raises(DamagedError, match="file 'config/metadata'"):
        seal(run)
    assert (run / "20.fluoroscope.json").read_bytes() == before


def test_what_is_not_whole_is_not_sealed(run: Path) -> None:
    (run / "20.fluoroscope.json").unlink()
    (run / "20").rename(run / "20.orbax-checkpoint-tmp")
    with pytest.raises(CheckpointError, match="has no committed step"):
        seal(run)
    assert uncommitted(run) == ["20.orbax-checkpoint-tmp"]
    (run / "20.orbax-checkpoint-tmp").rename(run / "20")
    with pytest.raises(CheckpointError, match="has no committed step 30; it has 20"):
        seal(run, 30)
    (run / "20" / "params" / "_METADATA").unlink()
    with pytest.raises(CheckpointError, match="step 20, item 'params', has arrays but no _METADATA file"):
        seal(run)
    assert [each.name for each in run.iterdir()] == ["20"]


def test_one_checkpoint_is_sealed_beside_itself(original: Path, tmp_path: Path) -> None:
    path = shutil.copytree(original / "20", tmp_path / "best")
    assert seal(path).content.digest == verify(original).content.digest
    assert sorted(each.name for each in tmp_path.iterdir()) == ["best", "best.fluoroscope.json"]
    assert verify(path, require_seal=True).sealed


def test_a_seal_that_cannot_be_taken_away(run: Path) -> None:
    """A folder in its place stands for one in which this user may delete nothing."""
    (run / "10.fluoroscope.json").mkdir()
    with pytest.raises(
        CheckpointError, match=r"step 20 is sealed, but .*10\.fluoroscope\.json, the seal of a step tha"
    ):
        seal(run)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ocp.CheckpointManager]:
    options = ocp.CheckpointManagerOptions(max_to_keep=2)
    with ocp.CheckpointManager(tmp_path / "run", options=options) as made:
        yield made


def test_a_trainer_that_seals_and_deletes_steps(manager: ocp.CheckpointManager, tmp_path: Path) -> None:
    """Orbax finds, restores and deletes its steps as ever, and seals of deleted steps do not pile up."""
    run = tmp_path / "run"
    for step in (1, 2, 3):
        manager.save(step, args=items(float(step)))
        manager.wait_until_finished()
        assert seal(run).place.step == step
    assert (manager.all_steps(), manager.latest_step()) == ([2, 3], 3)
    assert sorted(each.name for each in run.iterdir()) == ["2", "2.fluoroscope.json", "3", "3.fluoroscope.json"]
    with ocp.CheckpointManager(run) as later:
        assert (later.all_steps(), later.latest_step()) == ([2, 3], 3)
        restored = later.restore(3, args=ocp.args.Composite(params=ocp.args.StandardRestore()))
        assert float(restored["params"]["bias"][0]) == 3.0
    assert all(verify(run, step=step).sealed for step in steps(run))


def test_what_orbax_does_not_notice(tmp_path: Path) -> None:
    """Why there are seals: other weights come back, and no error."""
    weights = {"kernel": jnp.asarray(np.random.default_rng(0).normal(size=(64, 64)), jnp.float32)}
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "run", weights)
    seal(tmp_path / "run")
    file = max((tmp_path / "run").rglob("d/*"), key=lambda each: each.stat().st_size)
    whole = file.read_bytes()
    silent = 0
    for place in np.linspace(len(whole) // 4, 3 * len(whole) // 4, 5, dtype=int):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        with pytest.raises(DamagedError):
            verify(tmp_path / "run")
        with contextlib.suppress(CheckpointError):
            restored = open_checkpoint(tmp_path / "run").restore(weights)
            silent += not np.array_equal(restored["kernel"], weights["kernel"])
    assert silent > 0
