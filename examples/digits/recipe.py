"""What the demo's network is and how it is trained: everything that decides what the checkpoints hold."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The settings of one training. No JAX in sight: the demo reads them without importing any."""

    hidden_sizes: tuple[int, ...] = (512, 256, 256, 128)
    """The units of each hidden layer; these are the sizes of the tutorial that the network comes from."""

    act_fn: str = "relu"
    """The activation function between the layers."""

    num_classes: int = 10
    """One for each digit."""

    image_shape: tuple[int, int] = (8, 8)
    """The size of an image in pixels."""

    buckets: tuple[int, ...] = (1, 8, 64, 256)
    """The batch sizes that the server compiles for."""

    test_images: int = 360
    """How many images are kept from training, to test with."""

    batch_size: int = 64
    """How many images each step of training sees."""

    learning_rate: float = 1e-3
    """The learning rate of Adam at the start; it falls to zero along a cosine."""

    epochs: int = 20
    """How often training sees each image."""

    checkpoints: int = 4
    """How many checkpoints are written, at equal distances; the last is the end of training."""

    seed: int = 42
    """Decides the split, the first weights and the order of the images."""

    @property
    def layers(self) -> str:
        """Returns the sizes of all layers for people: `64 > 512 > ... > 10`."""
        height, width = self.image_shape
        return " > ".join(map(str, (height * width, *self.hidden_sizes, self.num_classes)))

    @property
    def model_config(self) -> dict[str, Any]:
        """Returns what the server must know, for the JSON item `config` of each checkpoint."""
        return {
            "family": "base_network",
            "config": {
                "hidden_sizes": list(self.hidden_sizes),
                "act_fn": self.act_fn,
                "num_classes": self.num_classes,
            },
            "inputs": {"image": {"dtype": "float32", "shape": list(self.image_shape)}},
            "outputs": ["logits"],
            "buckets": list(self.buckets),
        }

    def as_json(self) -> dict[str, Any]:
        """Returns the settings in terms of JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
