"""The network of the UvA deep-learning notebooks: dense layers, an activation function between them.

Source: P. Lippe, "UvA Deep Learning Tutorials", tutorial 3 (activation functions), JAX version.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flax.linen as nn
from jax.ad_checkpoint import checkpoint_name

from fluoroscope_server.families.activation import ACTIVATIONS
from fluoroscope_server.families.family_config import FamilyConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import jax

    from fluoroscope_server.families.activation import Activation

INITIALIZERS: dict[str, Callable[[], nn.initializers.Initializer]] = {
    "lecun_normal": nn.initializers.lecun_normal,
    "lecun_uniform": nn.initializers.lecun_uniform,
    "kaiming_normal": nn.initializers.kaiming_normal,
    "kaiming_uniform": nn.initializers.kaiming_uniform,
    "xavier_normal": nn.initializers.xavier_normal,
    "xavier_uniform": nn.initializers.xavier_uniform,
    "normal": nn.initializers.normal,
    "zeros": lambda: nn.initializers.zeros,
}
"""The kernel initializers by name; they matter to a trainer, not to a server."""


class BaseNetwork(nn.Module):
    """A multilayer perceptron that can hand out what each layer computes.

    The input, of any shape `(batch, ...)`, is flattened to `(batch, features)`.
    """

    act_fn: Activation = nn.relu
    num_classes: int = 10
    hidden_sizes: Sequence[int] = (512, 256, 256, 128)
    kernel_init: nn.initializers.Initializer = nn.linear.default_kernel_init

    @nn.compact
    def __call__(self, x: jax.Array, return_activations: bool = False) -> jax.Array | tuple[jax.Array, list[jax.Array]]:
        """Returns the logits, `(batch, num_classes)`; with `return_activations` also the list of activations.

        The list holds, for each hidden layer, the value before and after the activation function, and
        last the logits. Each is also a named site, `activations/0` and on, whether returned or not.
        """
        activations: list[jax.Array] = []

        def keep(value: jax.Array) -> jax.Array:
            named: jax.Array = checkpoint_name(value, f"activations/{len(activations)}")
            activations.append(named)
            return named

        x = x.reshape(x.shape[0], -1)
        for size in self.hidden_sizes:
            x = keep(nn.Dense(size, kernel_init=self.kernel_init)(x))
            x = keep(self.act_fn(x))
        x = keep(nn.Dense(self.num_classes, kernel_init=self.kernel_init)(x))
        return (x, activations) if return_activations else x


DEFAULTS: dict[str, Any] = {
    "hidden_sizes": BaseNetwork.hidden_sizes,
    "act_fn": "relu",
    "num_classes": BaseNetwork.num_classes,
    "kernel_init": "lecun_normal",
}
"""What a config can say, and what holds unless it does."""


def build(config: Mapping[str, Any]) -> BaseNetwork:
    """Makes the network: `hidden_sizes`, `act_fn`, `num_classes` and `kernel_init`, all with defaults.

    Raises:
        ConfigError: a key is unknown, or a value is.
    """
    options = FamilyConfig(family="base_network", given=config, defaults=DEFAULTS)
    return BaseNetwork(
        hidden_sizes=options.sizes("hidden_sizes"),
        num_classes=options.size("num_classes"),
        act_fn=options.choice("act_fn", ACTIVATIONS),
        kernel_init=options.choice("kernel_init", INITIALIZERS)(),
    )
