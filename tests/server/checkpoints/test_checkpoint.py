"""Every layout that Orbax writes, restored bit for bit into the network's variables."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from flax.training import train_state
from orbax.checkpoint import v1

from fluoroscope_server.checkpoints import LeafSpec, open_checkpoint
from fluoroscope_server.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable

    SameBits = Callable[[Any, Any], None]
    Save = Callable[[Any], Path]


class StatefulTrainState(train_state.TrainState):
    batch_stats: Any


class Network(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.linear = nnx.Linear(4, 3, rngs=rngs)
        self.norm = nnx.BatchNorm(3, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)


def abstract(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


def trained(variables: dict[str, Any]) -> Any:
    optimizer = optax.adamw(1e-3)
    return StatefulTrainState(
        step=12, apply_fn=max, tx=optimizer, opt_state=optimizer.init(variables["params"]), **variables
    )


@pytest.fixture
def network() -> nnx.State[Any, Any]:
    return nnx.state(Network(nnx.Rngs(0)))


@pytest.fixture
def pure(network: nnx.State[Any, Any]) -> dict[str, Any]:
    """What the network expects: its state as a nested dict, without the random streams."""
    tree = nnx.to_pure_dict(network)
    del tree["dropout"]
    return tree


# --- the layouts


def test_manager_with_named_items(tmp_path: Path, variables: dict[str, Any], same_bits: SameBits) -> None:
    with ocp.CheckpointManager(tmp_path / "run") as manager:
        for step in (10, 9):
            manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(jax.tree.map(lambda leaf, by=step: leaf * by, variables)),
                    config=ocp.args.JsonSave({"step": step}),
                ),
                force=True,
            )
    newest = open_checkpoint(tmp_path / "run")
    assert (newest.path, newest.step, newest.item, newest.config) == (tmp_path / "run", 10, "state", {"step": 10})
    same_bits(newest.restore(abstract(variables)), jax.tree.map(lambda leaf: leaf * 10, variables))
    older = open_checkpoint(tmp_path / "run", step=9)
    assert (older.step, older.config) == (9, {"step": 9})
    same_bits(older.restore(abstract(variables)), jax.tree.map(lambda leaf: leaf * 9, variables))


def test_manager_with_one_unnamed_item(tmp_path: Path, variables: dict[str, Any], same_bits: SameBits) -> None:
    with ocp.CheckpointManager(tmp_path / "run") as manager:
        manager.save(5, args=ocp.args.PyTreeSave(trained(variables)))
    checkpoint = open_checkpoint(tmp_path / "run")
    assert (checkpoint.step, checkpoint.item, checkpoint.config) == (5, "default", None)
    same_bits(checkpoint.restore(abstract(variables)), variables)


def test_standard_checkpointer(saved: Path, variables: dict[str, Any], same_bits: SameBits) -> None:
    checkpoint = open_checkpoint(saved)
    assert (checkpoint.step, checkpoint.item, checkpoint.config) == (0, None, None)
    same_bits(checkpoint.restore(abstract(variables)), variables)


@pytest.mark.parametrize("ocdbt", [True, False])
@pytest.mark.parametrize("zarr3", [True, False])
def test_pytree_checkpointer(
    tmp_path: Path, variables: dict[str, Any], same_bits: SameBits, *, ocdbt: bool, zarr3: bool
) -> None:
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=ocdbt, use_zarr3=zarr3)) as checkpointer:
        checkpointer.save(tmp_path / "run", args=ocp.args.PyTreeSave(trained(variables)))
    same_bits(open_checkpoint(tmp_path / "run").restore(abstract(variables)), variables)


def test_v1_tree(tmp_path: Path, variables: dict[str, Any], same_bits: SameBits) -> None:
    (v1.save if hasattr(v1, "save") else v1.save_pytree)(tmp_path / "run", variables)
    same_bits(open_checkpoint(tmp_path / "run").restore(abstract(variables)), variables)


def test_v1_items(tmp_path: Path, variables: dict[str, Any], same_bits: SameBits) -> None:
    v1.save_checkpointables(tmp_path / "run", {"model_params": variables, "optimizer_state": variables})
    checkpoint = open_checkpoint(tmp_path / "run")
    assert checkpoint.item == "model_params"
    same_bits(checkpoint.restore(abstract(variables)), variables)


def test_v1_series(tmp_path: Path, variables: dict[str, Any], same_bits: SameBits) -> None:
    with v1.training.Checkpointer(tmp_path / "run") as checkpointer:
        save = checkpointer.save if hasattr(checkpointer, "save") else checkpointer.save_pytree
        save(3, variables)
    checkpoint = open_checkpoint(tmp_path / "run")
    assert checkpoint.step == 3
    same_bits(checkpoint.restore(abstract(variables)), variables)


# --- the trees


def test_params_alone(save: Save, params: dict[str, Any], same_bits: SameBits) -> None:
    same_bits(open_checkpoint(save(params["params"])).restore(abstract(params)), params)


def test_params_twice(save: Save, params: dict[str, Any], same_bits: SameBits) -> None:
    same_bits(open_checkpoint(save({"params": params, "step": 4})).restore(abstract(params)), params)


def test_train_state(save: Save, variables: dict[str, Any], same_bits: SameBits) -> None:
    same_bits(open_checkpoint(save(trained(variables))).restore(abstract(variables)), variables)


def test_nnx_state_as_it_is(
    save: Save, network: nnx.State[Any, Any], pure: dict[str, Any], same_bits: SameBits
) -> None:
    checkpoint = open_checkpoint(save(network))
    assert "linear/kernel/value" in checkpoint.leaves  # what this test is about
    same_bits(checkpoint.restore(abstract(pure)), pure)


def test_nnx_state_as_a_pure_dict(
    save: Save, network: nnx.State[Any, Any], pure: dict[str, Any], same_bits: SameBits
) -> None:
    same_bits(open_checkpoint(save(nnx.to_pure_dict(network))).restore(abstract(pure)), pure)


def test_nnx_random_streams_when_expected(save: Save, network: nnx.State[Any, Any]) -> None:
    tree = nnx.to_pure_dict(network)
    key = open_checkpoint(save(network)).restore(abstract(tree))["dropout"]["rngs"]["key"]
    assert jnp.array_equal(jax.random.key_data(key), jax.random.key_data(tree["dropout"]["rngs"]["key"]))
    assert key.dtype == tree["dropout"]["rngs"]["key"].dtype


def test_nnx_random_streams_saved_as_plain_numbers(save: Save) -> None:
    stream = {"rngs": {"key": jax.random.key_data(jax.random.key(0)), "count": jnp.uint32(0)}}
    expected = jax.eval_shape(lambda: {"rngs": {"key": jax.random.key(0), "count": jnp.uint32(0)}})
    with pytest.raises(CheckpointError, match=r"leaf 'rngs/key' was read as uint32\[2\], but key<fry>\[\] is expected"):
        open_checkpoint(save(stream)).restore(expected)


def test_keys_that_are_paths(save: Save, params: dict[str, Any], same_bits: SameBits) -> None:
    flat = {f"{module}/{name}": leaf for module, leaves in params["params"].items() for name, leaf in leaves.items()}
    same_bits(open_checkpoint(save(flat)).restore(abstract(params)), params)


@pytest.mark.parametrize("container", [list, tuple, lambda layers: dict(enumerate(layers))])
def test_lists_and_dicts_of_numbers(save: Save, same_bits: SameBits, container: Callable[[Any], Any]) -> None:
    layers = [{"w": jnp.arange(3.0)}, {"w": jnp.arange(12.0)}]
    path = save({"params": container(layers), "opt_state": container(layers)})
    for expected in (layers, tuple(layers), {"0": layers[0], "1": layers[1]}):
        same_bits(open_checkpoint(path).restore(abstract(expected)), expected)


def test_numpy_and_empty_nodes(save: Save, same_bits: SameBits) -> None:
    tree = {"w": np.arange(6, dtype=np.int32).reshape(2, 3), "scale": np.float32(2), "empty": {}, "none": None}
    path = save(tree)
    expected = {"w": tree["w"], "scale": jnp.float32(2)}
    same_bits(open_checkpoint(path).restore(abstract(expected)), expected)


def test_network_without_variables(saved: Path) -> None:
    assert open_checkpoint(saved, prefix="nothing").restore({}) == {}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float8_e4m3fn", "int4", "uint8", "bool", "complex64"])
def test_dtypes(save: Save, same_bits: SameBits, dtype: str) -> None:
    tree = {"w": jnp.arange(6).astype(dtype)}
    same_bits(open_checkpoint(save(tree)).restore(abstract(tree)), tree)


def test_leaves_are_known_before_anything_is_read(saved: Path) -> None:
    leaves = open_checkpoint(saved).leaves
    assert leaves["params/Dense_0/kernel"] == LeafSpec(shape=(4, 3), dtype=np.dtype("float32"))
    assert len(leaves) == 6


# --- what is asked for


def test_prefix(save: Save, params: dict[str, Any], same_bits: SameBits) -> None:
    average = jax.tree.map(jnp.negative, params["params"])
    path = save({"params": params["params"], "ema": {"slow": average}})
    same_bits(open_checkpoint(path).restore(abstract(params)), params)
    same_bits(open_checkpoint(path, prefix="ema/slow").restore(abstract(params)), {"params": average})


def test_item(tmp_path: Path, params: dict[str, Any], same_bits: SameBits) -> None:
    student = jax.tree.map(jnp.negative, params)
    v1.save_checkpointables(tmp_path / "run", {"teacher": params, "student": student})
    with pytest.raises(CheckpointError, match="several items that could be the weights: student, teacher"):
        open_checkpoint(tmp_path / "run")
    same_bits(open_checkpoint(tmp_path / "run", item="student").restore(abstract(params)), student)


def test_float_becomes_the_expected_float(saved: Path, variables: dict[str, Any], same_bits: SameBits) -> None:
    wanted = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), variables)
    same_bits(open_checkpoint(saved).restore(abstract(wanted)), wanted)


def test_sharding_is_the_expected_one(saved: Path, variables: dict[str, Any]) -> None:
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("x",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
    expected = abstract(variables)
    kernel = variables["params"]["Dense_0"]["kernel"]
    expected["params"]["Dense_0"]["kernel"] = jax.ShapeDtypeStruct(kernel.shape, kernel.dtype, sharding=sharding)
    restored = open_checkpoint(saved).restore(expected)["params"]["Dense_0"]
    assert restored["kernel"].sharding == sharding
    assert restored["bias"].sharding == jax.sharding.SingleDeviceSharding(jax.devices()[0])


def test_relative_path(
    saved: Path, variables: dict[str, Any], same_bits: SameBits, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved.rename(saved.parent / "7")
    for path in (Path("7"), Path(saved.parent.name)):  # one checkpoint, and the series that it is a step of
        monkeypatch.chdir(saved.parent if path.name == "7" else saved.parent.parent)
        checkpoint = open_checkpoint(path)
        monkeypatch.chdir("/")
        assert (checkpoint.path, checkpoint.step) == (path, 7)
        same_bits(checkpoint.restore(abstract(variables)), variables)


def test_other_threads_and_running_loops(saved: Path, variables: dict[str, Any], same_bits: SameBits) -> None:
    def load() -> None:
        same_bits(open_checkpoint(saved).restore(abstract(variables)), variables)

    async def on_the_loop() -> None:
        await asyncio.gather(*(asyncio.to_thread(load) for _ in range(4)))
        load()

    asyncio.run(on_the_loop())


# --- what is refused


def test_larger_shape_is_refused(saved: Path, variables: dict[str, Any]) -> None:
    expected = abstract(variables)
    expected["params"]["Dense_0"]["kernel"] = jax.ShapeDtypeStruct((8, 3), jnp.float32)
    with pytest.raises(
        CheckpointError, match=r"params/Dense_0/kernel: expected float32\[8, 3\], found float32\[4, 3\]"
    ):
        open_checkpoint(saved).restore(expected)


def test_integer_is_refused(saved: Path, variables: dict[str, Any]) -> None:
    expected = abstract(variables)
    expected["params"]["Dense_0"]["bias"] = jax.ShapeDtypeStruct((3,), jnp.int8)
    with pytest.raises(CheckpointError, match=r"params/Dense_0/bias: expected int8\[3\], found float32\[3\]"):
        open_checkpoint(saved).restore(expected)


def test_all_leaves_at_fault_are_in_one_error(saved: Path, variables: dict[str, Any]) -> None:
    expected = abstract(variables)
    expected["params"]["Dense_1"] = expected["params"].pop("Dense_0")
    expected["batch_stats"]["BatchNorm_0"]["var"] = jax.ShapeDtypeStruct((5,), jnp.float32)
    with pytest.raises(CheckpointError) as refused:
        open_checkpoint(saved).restore(expected)
    assert refused.value.message == (
        f"checkpoint '{saved}' does not fit the network: 3 of 6 leaves fit\n"
        "2 missing:\n"
        "  params/Dense_1/bias: expected float32[3]\n"
        "  params/Dense_1/kernel: expected float32[4, 3]\n"
        "1 of the wrong shape or dtype:\n"
        "  batch_stats/BatchNorm_0/var: expected float32[5], found float32[3]\n"
        "2 extra, with no place in the network:\n"
        "  params/Dense_0/bias: found float32[3]\n"
        "  params/Dense_0/kernel: found float32[4, 3]\n"
        "Check that the config (sizes, number of layers) is the one that the checkpoint was trained with."
    )


def test_optimizer_state_is_not_read(save_files: Save, variables: dict[str, Any], same_bits: SameBits) -> None:
    path = save_files(trained(variables))
    chunks = [each for each in path.glob("opt_state.*/*") if each.name[0].isdigit()]
    assert len(chunks) > 8
    for each in chunks:
        each.unlink()
    same_bits(open_checkpoint(path).restore(abstract(variables)), variables)


def test_nothing_is_written(tmp_path: Path, variables: dict[str, Any]) -> None:
    root = tmp_path / "run"
    with ocp.CheckpointManager(root) as manager:
        manager.save(1, args=ocp.args.StandardSave(variables))
    shutil.copytree(root / "1", root / "2.orbax-checkpoint-tmp")  # what Orbax would clean up
    (root / "3").mkdir()
    for each in (root, *root.rglob("*")):
        each.chmod(0o555 if each.is_dir() else 0o444)

    def state() -> list[tuple[Any, ...]]:
        return [(each, each.stat().st_mtime_ns, each.stat().st_size) for each in (root, *sorted(root.rglob("*")))]

    before = state()
    open_checkpoint(root).restore(abstract(variables))
    assert state() == before
