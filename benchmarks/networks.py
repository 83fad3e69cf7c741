"""The networks that are measured, and their checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.ad_checkpoint import checkpoint_name

from fluoroscope_server.families.base_network import build

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

IMAGE = (28, 28, 1)
DIGITS = {"hidden_sizes": [512, 256, 256, 128], "act_fn": "relu", "num_classes": 10}
WIDE = 4 << 20
"""How many float32 one site of the wide network has: 16 MiB."""

BLOCKS = 24
"""How many blocks the deep networks have."""
BLOCK_ROWS, BLOCK_FEATURES = 512, 512
"""The batch that goes through `Blocks`: so large that each block takes about 10 ms on two cores."""


def digits() -> tuple[Any, Any]:
    """Returns the 784-512-256-256-128-10 network of the UvA notebooks and its variables."""
    module = build(DIGITS)
    return module, module.init(jax.random.key(0), np.zeros((1, *IMAGE), np.float32))


def save_digits(folder: Path) -> Path:
    """Writes a checkpoint of `digits`."""
    inputs = {"image": {"dtype": "float32", "shape": list(IMAGE)}}
    config = {"family": "base_network", "config": DIGITS, "inputs": inputs, "outputs": ["logits"]}
    return _save(folder / "digits", digits()[1], config)


def wide(config: Mapping[str, Any]) -> Any:  # noqa: ARG001 (every family is called with a config)
    """The family of a network that computes almost nothing and has four sites of 16 MiB."""
    return lambda variables, inputs: wide_sites(variables["weights"], inputs["x"])[-1][:, :1]


def wide_sites(weights: jax.Array, x: jax.Array) -> list[jax.Array]:
    """Returns the four sites, shape (rows, WIDE) each, for the weights of shape (WIDE,) and an x of shape (rows, 1)."""
    sites = []
    for index in range(4):
        sites.append(checkpoint_name(x[:, :1] + weights, f"wide/{index}"))
        x = sites[-1]
    return sites


def save_wide(folder: Path) -> Path:
    """Writes a checkpoint of `wide`; its variables are 64 MiB, too, most of which it does not use."""
    inputs = {"x": {"dtype": "float32", "shape": [1]}}
    config = {"family": "networks:wide", "inputs": inputs, "buckets": [1]}
    weights, others = jnp.arange(WIDE, dtype=jnp.float32), jnp.ones((3, WIDE), jnp.float32)
    return _save(folder / "wide", {"weights": weights, "others": others}, config)


class Deep(nn.Module):
    """Twenty-four residual blocks: the network of which there is much to compile."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns as many features as came, for an x of shape (rows, features)."""
        for _ in range(BLOCKS):
            x += nn.Dense(x.shape[-1])(nn.gelu(nn.Dense(2 * x.shape[-1])(nn.LayerNorm()(x))))
        return x


class Block(nn.Module):
    """A larger block as a module, in the form that `nn.scan` calls."""

    @nn.compact
    def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
        """Returns the stream after this block, of the shape of x, (rows, features), and nothing to stack."""
        return x + nn.Dense(x.shape[-1])(nn.gelu(nn.Dense(4 * x.shape[-1])(nn.LayerNorm()(x)))), None


class Blocks(nn.Module):
    """Twenty-four such blocks and nothing else: the network of which there is much to compute."""

    scanned: bool
    """Whether they run under `nn.scan`, from one stack of weights, or are written out."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns as many features as came, for an x of shape (rows, features)."""
        if self.scanned:
            scanned = nn.scan(Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=BLOCKS)
            x, _ = scanned(name="layers")(x, None)
            return x
        for layer in range(BLOCKS):
            x, _ = Block(name=f"layers_{layer}")(x, None)
        return x


def blocks(config: Mapping[str, Any]) -> Blocks:
    """The family of `Blocks`."""
    return Blocks(scanned=config["scanned"])


def blocks_config(*, scanned: bool, buckets: Sequence[int] = (BLOCK_ROWS,)) -> dict[str, Any]:
    """Returns what is saved beside the weights of `Blocks`."""
    return {
        "family": "networks:blocks",
        "config": {"scanned": scanned},
        "inputs": {"x": {"shape": [BLOCK_FEATURES]}},
        "buckets": list(buckets),
    }


def blocks_variables(*, scanned: bool) -> Any:
    """Returns variables of `Blocks`."""
    return Blocks(scanned=scanned).init(jax.random.key(0), np.zeros((1, BLOCK_FEATURES), np.float32))


def save_blocks(folder: Path, *, buckets: Sequence[int] = (BLOCK_ROWS,)) -> Path:
    """Writes a checkpoint of `Blocks`, written out."""
    return _save(folder / "blocks", blocks_variables(scanned=False), blocks_config(scanned=False, buckets=buckets))


def deep(config: Mapping[str, Any]) -> Deep:  # noqa: ARG001 (every family is called with a config)
    """The family of `Deep`."""
    return Deep()


def save_deep(folder: Path) -> Path:
    """Writes a checkpoint of `deep`, with statistics of every module as a preset."""
    x = np.zeros((1, 64), np.float32)
    presets = {"health": {"sites": ["**"], "kinds": ["module"], "reduce": ["statistics"], "buckets": [1, 32]}}
    config = {"family": "networks:deep", "inputs": {"x": {"shape": [64]}}, "buckets": [1, 8, 32], "presets": presets}
    return _save(folder / "deep", Deep().init(jax.random.key(0), x), config)


def _save(folder: Path, variables: Any, config: dict[str, Any]) -> Path:
    with ocp.CheckpointManager(folder) as manager:
        items = ocp.args.Composite(state=ocp.args.StandardSave(variables), config=ocp.args.JsonSave(config))
        manager.save(1, args=items)
    return folder
