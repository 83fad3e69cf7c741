"""Loading: real Orbax checkpoints, each way to say what the network is, and one error that names the model."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from fluoroscope_server.errors import CheckpointError, ConfigError, ModelError
from fluoroscope_server.serving import StageClock, load
from fluoroscope_server.settings import ModelSource

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fluoroscope_server.families.base_network import BaseNetwork
    from fluoroscope_server.serving import DeviceQueue, Servable

X = np.random.default_rng(0).normal(size=(3, 2, 2)).astype(np.float32)


@dataclass(frozen=True)
class Trained:
    """A network as a training script leaves it."""

    module: BaseNetwork
    variables: Any
    config: dict[str, Any]


@pytest.fixture
def trained(module: BaseNetwork, variables: Any, model_config: dict[str, Any]) -> Trained:
    return Trained(module=module, variables=variables, config=model_config)


@pytest.fixture
def load_model(device: DeviceQueue) -> Callable[..., Servable]:
    """Loads a folder as the model `digits`."""

    def make(path: Path, family: str | None = None, **limits: Any) -> Servable:
        source = ModelSource(name="digits", path=path, family=family)
        return load(source, device, capacity=8, on_compile=lambda _: None, **limits)

    return make


def test_how_long_a_prediction_waits_for_others(
    tmp_path: Path, save: Callable[..., Path], trained: Trained, load_model: Callable[..., Servable]
) -> None:
    """As long as the server's own setting says, but for the delay that a model's config names."""
    patient = load_model(save(tmp_path / "patient", trained.variables, trained.config), max_delay=1000.0)
    config = {**trained.config, "max_delay": 0}
    prompt = load_model(save(tmp_path / "prompt", trained.variables, config), max_delay=1000.0)
    assert_serves(prompt, trained)

    async def main() -> None:
        first = asyncio.ensure_future(_predict(patient))
        for _turn in range(3):
            await asyncio.sleep(0)
        assert (patient.batcher.waiting, first.done()) == (1, False)
        await asyncio.gather(first, _predict(patient))  # which fills the batch

    asyncio.run(asyncio.wait_for(main(), 60))


def logits(servable: Servable) -> np.ndarray:
    (array,) = asyncio.run(_predict(servable)).values()
    return array


async def _predict(servable: Servable) -> dict[str, np.ndarray]:
    (name,) = servable.engine.signature.input_names
    return await servable.predict({name: X}, (), StageClock())


def assert_serves(servable: Servable, trained: Trained) -> None:
    padded = np.concatenate([X, np.zeros((1, 2, 2), np.float32)])
    want = jax.jit(trained.module.apply)(trained.variables, padded)
    np.testing.assert_array_equal(logits(servable), np.asarray(want)[:3])


def as_toml(config: dict[str, Any]) -> str:
    sizes = config["config"]
    return f"""
        family = "base_network"
        outputs = ["logits"]
        buckets = [4]
        config = {{hidden_sizes = {sizes["hidden_sizes"]}, num_classes = {sizes["num_classes"]}}}
        inputs.image = {{dtype = "float32", shape = [2, 2]}}
    """


def test_a_config_in_the_checkpoint(
    tmp_path: Path,
    save: Callable[..., Path],
    load_model: Callable[..., Servable],
    trained: Trained,
) -> None:
    servable = load_model(save(tmp_path / "run", trained.variables, trained.config))
    assert (servable.name, servable.version, servable.family) == ("digits", 0, "base_network")
    assert servable.engine.buckets == (1, 4)
    assert servable.load_seconds > 0
    assert_serves(servable, trained)


def test_a_series_of_checkpoints(
    tmp_path: Path,
    load_model: Callable[..., Servable],
    trained: Trained,
) -> None:
    newest = jax.tree.map(lambda leaf: leaf * 2.0, trained.variables)
    with ocp.CheckpointManager(tmp_path) as manager:
        for step, tree in ((10, trained.variables), (20, newest)):
            items = ocp.args.Composite(state=ocp.args.StandardSave(tree), config=ocp.args.JsonSave(trained.config))
            manager.save(step, args=items)
        manager.wait_until_finished()
    servable = load_model(tmp_path)
    assert servable.version == 20
    assert_serves(servable, replace(trained, variables=newest))


def test_a_model_file_comes_before_the_stored_config(
    tmp_path: Path,
    save: Callable[..., Path],
    load_model: Callable[..., Servable],
    trained: Trained,
) -> None:
    path = save(tmp_path / "run", trained.variables, {"family": "nonsense"})
    (path / "model.toml").write_text(as_toml(trained.config))
    servable = load_model(path)
    assert servable.engine.buckets == (4,)
    assert_serves(servable, trained)


def test_a_model_file_without_a_family_is_laid_over_the_stored_config(
    tmp_path: Path,
    save: Callable[..., Path],
    load_model: Callable[..., Servable],
    trained: Trained,
) -> None:
    path = save(tmp_path / "run", trained.variables, {**trained.config, "canary": {"allow_nonfinite": True}})
    (path / "model.toml").write_text('buckets = [2]\nmax_delay = 0.5\n[presets.health]\nsites = ["**"]\n')
    servable = load_model(path)
    assert servable.engine.buckets == (2,)
    assert servable.family == "base_network"


def test_a_model_file_that_names_item_and_prefix(
    tmp_path: Path,
    load_model: Callable[..., Servable],
    trained: Trained,
) -> None:
    items = ocp.args.Composite(
        teacher=ocp.args.StandardSave(
            {"ema": trained.variables, "raw": jax.tree.map(jnp.zeros_like, trained.variables)}
        ),
        params=ocp.args.StandardSave(jax.tree.map(jnp.zeros_like, trained.variables)),
    )
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        checkpointer.save(tmp_path / "run", args=items)
    file = tmp_path / "run" / "model.toml"
    file.write_text('item = "teacher"\nprefix = "ema"\n' + as_toml(trained.config))
    assert_serves(load_model(tmp_path / "run"), trained)


def test_the_operators_family_overrides(
    tmp_path: Path,
    save: Callable[..., Path],
    load_model: Callable[..., Servable],
    trained: Trained,
    family: Callable[[Any], str],
) -> None:
    def apply(variables: dict[str, jax.Array], inputs: dict[str, jax.Array]) -> Any:
        return inputs["image"].reshape(-1, 4) * variables["scale"]

    path = save(tmp_path / "run", {"scale": np.float64(3), "step": 7}, trained.config)
    servable = load_model(path, family=family(lambda _: apply))
    assert servable.family == "family_under_test:build"
    np.testing.assert_array_equal(logits(servable), 3 * X.reshape(3, 4))


def test_every_compile_is_told(
    tmp_path: Path, save: Callable[..., Path], device: DeviceQueue, trained: Trained
) -> None:
    told: list[float] = []
    source = ModelSource(name="digits", path=save(tmp_path / "run", trained.variables, trained.config))
    servable = load(source, device, capacity=8, on_compile=told.append)
    assert len(told) == len(servable.engine.buckets) == 2


def test_no_config_at_all(
    tmp_path: Path, save: Callable[..., Path], load_model: Callable[..., Servable], trained: Trained
) -> None:
    path = save(tmp_path / "run", trained.variables)
    message = (
        "^model 'digits': the checkpoint .*run does not say what its network is: save a JSON item named 'config' "
        "in it, or put a model.toml in that folder"
    )
    with pytest.raises(ConfigError, match=message):
        load_model(path)
    with pytest.raises(ConfigError, match=message):  # a family alone says nothing of the inputs
        load_model(path, family="base_network")


def test_another_tree(
    tmp_path: Path,
    save: Callable[..., Path],
    load_model: Callable[..., Servable],
    trained: Trained,
) -> None:
    """Everything that does not fit is in one error, and the model is named."""
    tree = {"params": dict(trained.variables["params"])}
    tree["params"]["Dense_9"] = tree["params"].pop("Dense_1")
    tree["params"]["Dense_0"] = {"kernel": jnp.zeros((4, 9)), "bias": jnp.zeros(8)}
    with pytest.raises(CheckpointError, match=r"^model 'digits': ") as caught:
        load_model(save(tmp_path / "run", tree, trained.config))
    for words in ("Dense_1/kernel", "Dense_1/bias", "Dense_9/kernel", "float32[4, 9]", "float32[4, 8]"):
        assert words in caught.value.message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"family": "base_netwrok"}, "there is no builtin family 'base_netwrok'"),
        ({"config": {"hidden_size": [1]}}, "base_network has no 'hidden_size'"),
        ({"inputs": {}}, "the model config has no `inputs`"),
        ({"bukets": [1]}, "the model config has an unknown key 'bukets'; nearest: 'buckets'"),
        ({"outputs": ["a", "b"]}, r"the config names 2 outputs \(a, b\), and the network returns 1"),
    ],
)
def test_a_wrong_config(
    changes: dict[str, Any],
    message: str,
    tmp_path: Path,
    save: Callable[..., Path],
    load_model: Callable[..., Servable],
) -> None:
    right = {"family": "base_network", "inputs": {"image": {"shape": [2, 2]}}}
    path = save(tmp_path / "run", {"params": {"x": jnp.zeros(1)}}, {**right, **changes})
    with pytest.raises(ConfigError, match=f"^model 'digits': {message}"):
        load_model(path)


@pytest.mark.parametrize("content", [b"family = ", b"\xff\xfe"])
def test_a_model_file_that_is_no_toml(content: bytes, tmp_path: Path, load_model: Callable[..., Servable]) -> None:
    (tmp_path / "model.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"^model 'digits': .*model\.toml cannot be read: "):
        load_model(tmp_path)


def test_a_model_file_that_cannot_be_read(tmp_path: Path, load_model: Callable[..., Servable]) -> None:
    (tmp_path / "model.toml").mkdir()
    with pytest.raises(ConfigError, match=r"^model 'digits': .*model\.toml cannot be read: "):
        load_model(tmp_path)


def test_no_checkpoint(tmp_path: Path, load_model: Callable[..., Servable]) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "nowhere", tmp_path / "file", tmp_path):
        with pytest.raises(ModelError, match=r"^model 'digits': "):
            load_model(path)
