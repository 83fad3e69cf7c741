"""What the tests of the whole server share: JAX at its strictest, families by import path, and a model on disk."""

from __future__ import annotations

import logging
import sys
import types
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from fluoroscope_server.families.base_network import BaseNetwork
from fluoroscope_server.model_config import ModelConfig
from fluoroscope_server.serving import DeviceQueue, load
from fluoroscope_server.settings import ModelSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fluoroscope_server.serving import Servable


@pytest.fixture(autouse=True, scope="session")
def compiled_once(cache_home: Path) -> Iterator[None]:
    """Compiles once what many tests compile: about a tenth of their time."""
    options = {
        "jax_compilation_cache_dir": str(cache_home / "jax"),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in options}
    for name, value in options.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture(autouse=True)
def strictest() -> Iterator[None]:
    """JAX at its strictest, for our own code; the networks of other tests are as free as their authors."""
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")
    yield
    jax.config.update("jax_numpy_dtype_promotion", "standard")
    jax.config.update("jax_numpy_rank_promotion", "allow")


@pytest.fixture
def loggers() -> Iterator[None]:
    """Leaves the loggers as they were."""
    root, ours = logging.getLogger(), logging.getLogger("fluoroscope_server")
    handlers, level = list(root.handlers), ours.level
    yield
    root.handlers[:] = handlers
    ours.setLevel(level)
    logging.captureWarnings(capture=False)


def make_config(**changes: Any) -> ModelConfig:
    """Returns a config with one input, `x: float32[batch, 4]`, but for the changes."""
    return ModelConfig.parse({"family": "base_network", "inputs": {"x": {"shape": [4]}}, "buckets": [1, 4], **changes})


@pytest.fixture(name="config", scope="session")
def config_fixture() -> Callable[..., ModelConfig]:
    """Makes configs with one input, `x: float32[batch, 4]`, but for the changes."""
    return make_config


@pytest.fixture
def family(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], str]:
    """Makes anything importable, and returns its import path."""

    def register(made: Any) -> str:
        module = types.ModuleType("family_under_test")
        module.__dict__["build"] = made
        monkeypatch.setitem(sys.modules, "family_under_test", module)
        return "family_under_test:build"

    return register


SMALL = {
    "family": "base_network",
    "config": {"hidden_sizes": [8, 6], "num_classes": 3},
    "inputs": {"image": {"shape": [2, 2]}},
    "outputs": ["logits"],
    "buckets": [1, 4],
}


@pytest.fixture(scope="session")
def device() -> Iterator[DeviceQueue]:
    queue = DeviceQueue("device")
    yield queue
    queue.close()


@pytest.fixture(scope="session")
def model_config() -> dict[str, Any]:
    """The config of a small `base_network`."""
    return dict(SMALL)


@pytest.fixture(scope="session")
def module() -> BaseNetwork:
    """The network of that config."""
    return BaseNetwork(hidden_sizes=(8, 6), num_classes=3)


@pytest.fixture(scope="session")
def variables(module: BaseNetwork) -> Any:
    """Weights of that network."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 2, 2)))
    generator = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: jnp.asarray(generator.normal(size=leaf.shape), leaf.dtype), shapes)


@pytest.fixture(scope="session")
def save() -> Callable[..., Path]:
    """Saves a tree, and a config beside it if there is one, as one checkpoint: `save(path, tree, config)`."""

    def write(path: Path, tree: Any, config: dict[str, Any] | None = None) -> Path:
        items = {"params": ocp.args.StandardSave(tree)}
        if config is not None:
            items["config"] = ocp.args.JsonSave(config)
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
            checkpointer.save(path, args=ocp.args.Composite(**items))
        return path

    return write


@pytest.fixture(scope="module")
def servable(
    tmp_path_factory: pytest.TempPathFactory,
    save: Callable[..., Path],
    device: DeviceQueue,
    model_config: dict[str, Any],
    variables: Any,
) -> Iterator[Servable]:
    """The small network, saved and loaded as model `digits`."""
    path = save(tmp_path_factory.mktemp("model") / "run", variables, model_config)
    loaded = load(ModelSource(name="digits", path=path), device, capacity=8, on_compile=lambda _: None)
    yield loaded
    loaded.engine.close()
