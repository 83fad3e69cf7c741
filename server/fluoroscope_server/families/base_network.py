"""The network of the UvA deep-learning notebooks: dense layers, an activation function between them.

Source: P. Lippe, "UvA Deep Learning Tutorials", tutorial 3 (activation functions), JAX version.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
from jax.ad_checkpoint import checkpoint_name

from fluoroscope_server.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Activation = Callable[[jax.Array], jax.Array]

ACTIVATIONS: dict[str, Activation] = {
    "identity": lambda x: x,
    "sigmoid": nn.sigmoid,
    "tanh": nn.tanh,
    "relu": nn.relu,
    "leakyrelu": lambda x: nn.leaky_relu(x, negative_slope=0.1),
    "elu": nn.elu,
    "swish": nn.swish,
    "gelu": nn.gelu,
}
"""The activation functions by name: the six of the notebooks, and two more."""

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


def build(config: Mapping[str, Any]) -> BaseNetwork:
    """Makes the network: `hidden_sizes`, `act_fn`, `num_classes` and `kernel_init`, all with defaults.

    Raises:
        ConfigError: a key is unknown, or a value is.
    """
    known = ("hidden_sizes", "act_fn", "num_classes", "kernel_init")
    for key in config:
        if key not in known:
            raise ConfigError(f"base_network has no {key!r}; nearest: {nearest(key, known)}; known: {', '.join(known)}")
    sizes = config.get("hidden_sizes", BaseNetwork.hidden_sizes)
    classes = config.get("num_classes", BaseNetwork.num_classes)
    if not isinstance(sizes, list | tuple) or not all(_is_size(size) for size in sizes):
        raise ConfigError(f"base_network's hidden_sizes must be a list of positive sizes, not {sizes!r}")
    if not _is_size(classes):
        raise ConfigError(f"base_network's num_classes must be a positive number, not {classes!r}")
    return BaseNetwork(
        act_fn=_choose("act_fn", config.get("act_fn", "relu"), ACTIVATIONS),
        num_classes=classes,
        hidden_sizes=tuple(sizes),
        kernel_init=_choose("kernel_init", config.get("kernel_init", "lecun_normal"), INITIALIZERS)(),
    )


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _choose(key: str, name: object, choices: Mapping[str, Any]) -> Any:
    if not isinstance(name, str) or name not in choices:
        raise ConfigError(
            f"base_network has no {key} {name!r}; nearest: {nearest(str(name), choices)}; known: {', '.join(choices)}"
        )
    return choices[name]
