"""A small network of each builtin family, with weights, as a training script would have it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx

from fluoroscope_server.families.catalogue import BUILTIN

from .drawn import numbers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

STEP = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A network of a builtin family."""

    family: str
    """The name of the family."""

    config: dict[str, Any]
    """What the family is called with."""

    shape: tuple[int, ...]
    """The shape of an example of its input, `x`."""

    vocabulary: int = 0
    """How many tokens there are to choose from, if the input is tokens."""

    def module(self) -> Any:
        """Returns the network as its family makes it."""
        return BUILTIN[self.family](self.config)

    def inputs(self, rows: int, *, seed: int = 0) -> np.ndarray:
        """Returns a batch."""
        generator = np.random.default_rng(seed)
        if self.vocabulary:
            return generator.integers(self.vocabulary, size=(rows, *self.shape), dtype=np.int32)
        return generator.normal(size=(rows, *self.shape)).astype(np.float32)

    def variables(self) -> Any:
        """Returns weights, in the form in which a training script has them."""
        module = self.module()
        if isinstance(module, nn.Module):
            return numbers(jax.eval_shape(module.init, jax.random.key(0), self.inputs(1)))
        return numbers(nnx.state(module))

    def apply(self, variables: Any, x: np.ndarray) -> np.ndarray:
        """Returns what the network computes outside of any server."""
        module = self.module()
        if isinstance(module, nn.Module):
            return np.asarray(jax.jit(module.apply)(variables, x))
        graph, _ = nnx.split(module)
        return np.asarray(jax.jit(lambda state, x: nnx.merge(graph, state)(x))(variables, x))

    def model_config(self, *, buckets: Sequence[int] = (1, 4)) -> dict[str, Any]:
        """Returns what is saved beside the weights."""
        dtype = "int32" if self.vocabulary else "float32"
        return {
            "family": self.family,
            "config": self.config,
            "inputs": {"x": {"dtype": dtype, "shape": list(self.shape)}},
            "outputs": ["logits"],
            "buckets": list(buckets),
        }

    def save(self, folder: Path, variables: Any, *, buckets: Sequence[int] = (1, 4)) -> Path:
        """Saves a step of a CheckpointManager's series; returns its folder."""
        config = ocp.args.JsonSave(self.model_config(buckets=buckets))
        items = ocp.args.Composite(state=ocp.args.StandardSave(variables), config=config)
        with ocp.CheckpointManager(folder) as checkpoints:
            checkpoints.save(STEP, args=items)
        return folder


EXAMPLES = {
    example.family: example
    for example in (
        Example(family="base_network", config={"hidden_sizes": [8, 6], "num_classes": 3}, shape=(2, 3)),
        Example(family="cnn", config={"widths": [8, 12], "blocks": [1, 2], "num_classes": 3}, shape=(8, 6, 2)),
        Example(
            family="vit",
            config={"patch_size": 4, "width": 8, "depth": 2, "heads": 2, "mlp_ratio": 3, "num_classes": 3},
            shape=(8, 12, 2),
        ),
        Example(
            family="transformer",
            config={"vocab_size": 11, "width": 8, "depth": 3, "heads": 2, "mlp_ratio": 3},
            shape=(5,),
            vocabulary=11,
        ),
        Example(family="nnx_mlp", config={"in_features": 6, "width": 8, "depth": 2, "num_classes": 3}, shape=(2, 3)),
    )
}
"""An example of each builtin family, by its name."""
