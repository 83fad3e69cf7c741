"""The weights inside the `magika` package, as variables of `network.FileTypeNetwork`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

MODEL = "standard_v3_3"
"""The folder of the model, below `models` in the package."""

SCOPE = "jax2tf_get_logits_/pjit_get_logits_/MagikaV2/"
"""What the names of the graph's nodes begin with: the exporter kept the Flax module's own name stack."""

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagedModel:
    """The model that the installed `magika` package ships."""

    graph: Path
    """The ONNX file."""

    labels: tuple[str, ...]
    """The name of each class, in the order of the network's output."""

    epoch: int
    """The epoch of its training at which it was saved."""


def packaged_model() -> PackagedModel:
    """Finds the model in the installed `magika` package."""
    folder = Path(str(resources.files("magika"))) / "models" / MODEL
    config = json.loads((folder / "config.min.json").read_text())
    metadata = json.loads((folder / "metadata.json").read_text())
    return PackagedModel(
        graph=folder / "model.onnx",
        labels=tuple(config["target_labels_space"]),
        epoch=int(metadata["epoch_num"]),
    )


def read_variables(graph: Path) -> dict[str, Any]:
    """Returns the weights of the ONNX file as variables of the Flax network: `{"params": ...}`, float32.

    Raises:
        KeyError: if the graph lacks a node that carries a weight: it is another network.
    """
    weights = _Weights(graph)
    kernel = weights.of("Conv_0/Conv2D")  # (out, in, width, 1)
    params = {
        # A one-hot vector times a kernel, plus a bias, is a row of this table, to the bit.
        "byte_embedding": {"embedding": weights.of("Dense_0/einsum/Einsum") + weights.of("Dense_0/AddV2").ravel()},
        "patch_norm": weights.of_norm("LayerNorm_0"),
        "conv": {"kernel": kernel[..., 0].transpose(2, 1, 0), "bias": weights.of("Conv_0/AddV2").ravel()},
        "pool_norm": weights.of_norm("LayerNorm_1"),
        "logits": {"kernel": weights.of("Dense_1/MatMul"), "bias": weights.of("Dense_1/AddV2").ravel()},
    }
    return {"params": params}


class _Weights:
    """The constants of an ONNX graph, by the node that uses them: their own names say nothing."""

    def __init__(self, path: Path) -> None:
        graph = onnx.load(path).graph
        self._nodes = {node.name: node for node in graph.node}
        self._constants = {each.name: each for each in graph.initializer}

    def of(self, node: str) -> Array:
        """Returns the one constant among the inputs of `node`."""
        names = [name for name in self._nodes[SCOPE + node].input if name in self._constants]
        (name,) = names
        return np.array(numpy_helper.to_array(self._constants[name]), np.float32)

    def of_norm(self, layer: str) -> dict[str, Array]:
        """Returns the two parameters of a layer normalisation."""
        return {"scale": self.of(f"{layer}/Mul").ravel(), "bias": self.of(f"{layer}/AddV2_1").ravel()}
