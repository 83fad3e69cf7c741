"""Real Orbax checkpoints, written as training scripts write them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx

from fluoroscope_server.families.activation import ACTIVATIONS
from fluoroscope_server.families.base_network import BaseNetwork

from ..drawn import numbers
from .networks import networks_of_tests

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import flax.linen as nn
    import numpy.typing as npt

FEATURES = 6
STEP = 7


def save_series(folder: Path, variables: Any, config: Mapping[str, Any], *, step: int = STEP) -> Path:
    """Saves a step of a CheckpointManager's series, with the config beside the weights."""
    with ocp.CheckpointManager(folder) as manager:
        manager.save(
            step, args=ocp.args.Composite(state=ocp.args.StandardSave(variables), config=ocp.args.JsonSave(config))
        )
    return folder


def save_one(folder: Path, tree: Any, config: Mapping[str, Any]) -> Path:
    """Saves a single StandardCheckpointer folder, and a model.toml in it."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder, tree)
    # JSON's strings, numbers, lists and inline tables of them are TOML's, but for the colon.
    lines = [f"{key} = {_toml(value)}" for key, value in config.items()]
    (folder / "model.toml").write_text("\n".join(lines) + "\n")
    return folder


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + "}"
    return json.dumps(value)


def base_network(act_fn: str, hidden_sizes: Sequence[int], num_classes: int) -> BaseNetwork:
    return BaseNetwork(act_fn=ACTIVATIONS[act_fn], hidden_sizes=tuple(hidden_sizes), num_classes=num_classes)


def base_config(act_fn: str, hidden_sizes: Sequence[int], num_classes: int, buckets: Sequence[int]) -> dict[str, Any]:
    return {
        "family": "base_network",
        "config": {"act_fn": act_fn, "hidden_sizes": list(hidden_sizes), "num_classes": num_classes},
        "inputs": {"x": {"dtype": "float32", "shape": [FEATURES]}},
        "outputs": ["logits"],
        "buckets": list(buckets),
    }


def save_base_network(
    folder: Path, *, act_fn: str, hidden_sizes: Sequence[int], num_classes: int, buckets: Sequence[int]
) -> Any:
    """Saves a network of the seed's tutorial; returns its variables."""
    network = base_network(act_fn, hidden_sizes, num_classes)
    variables = randomized(network, np.zeros((1, FEATURES), np.float32))
    save_series(folder, variables, base_config(act_fn, hidden_sizes, num_classes, buckets))
    return variables


def save_convolutions(folder: Path) -> tuple[nn.Module, Any]:
    network = networks_of_tests.Convolutions(features=4)
    variables = randomized(network, np.zeros((1, 8, 8, 1), np.float32))
    config = {
        "family": "networks_of_tests:convolutions",
        "config": {"features": 4},
        "inputs": {"image": {"dtype": "float32", "shape": [8, 8, 1]}},
        "outputs": ["logits"],
        "buckets": [1, 4],
    }
    save_series(folder, variables, config, step=300)
    return network, variables


def save_perceptron(folder: Path) -> networks_of_tests.Perceptron:
    """Saves an NNX state directly: keys of random streams and a trailing `value` on each leaf included."""
    network = networks_of_tests.Perceptron(9, rngs=nnx.Rngs(3))
    config = {
        "family": "networks_of_tests:perceptron",
        "config": {"hidden": 9},
        "inputs": {"x": {"dtype": "float32", "shape": [5]}},
        "buckets": [4],
    }
    save_one(folder, nnx.state(network), config)
    network.eval()  # type: ignore[no-untyped-call]  # Flax types it in part
    return network


def function_config() -> dict[str, Any]:
    return {
        "family": "networks_of_tests:function",
        "inputs": {"tokens": {"dtype": "float32", "shape": [3]}, "mask": {"dtype": "bool", "shape": []}},
        "buckets": [2, 4],
    }


def save_function(folder: Path) -> Any:
    variables = numbers({"keys": {"kernel": jax.ShapeDtypeStruct((3, 7), np.float32)}})
    save_one(folder, variables, function_config())
    return variables


def randomized(network: nn.Module, x: npt.NDArray[np.float32]) -> Any:
    """Returns variables for a network; nothing is zero or one, as biases and running averages begin."""
    return numbers(jax.eval_shape(network.init, jax.random.key(0), x))


def batch(rows: int, *shape: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(rows, *(shape or (FEATURES,)))).astype(np.float32)
