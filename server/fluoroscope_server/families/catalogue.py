"""From the name of a family to a network."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import flax.linen as nn
from flax import nnx

from fluoroscope_server.errors import ConfigError
from fluoroscope_server.families import base_network, cnn, nnx_mlp, transformer, vit
from fluoroscope_server.families.function import PureFunction, function_network, nested
from fluoroscope_server.families.linen import Linen, linen_network
from fluoroscope_server.families.nnx import nnx_network

if TYPE_CHECKING:
    import numpy as np

    from fluoroscope_server.families.network import Network
    from fluoroscope_server.model_config import ModelConfig

Family = Callable[[Mapping[str, Any]], Any]

BUILTIN: dict[str, Family] = {
    "base_network": base_network.build,
    "cnn": cnn.build,
    "vit": vit.build,
    "transformer": transformer.build,
    "nnx_mlp": nnx_mlp.build,
}
"""The families that need no import path. To add one: a file beside this one, and a row here."""


def build_network(config: ModelConfig, stored: Mapping[str, tuple[tuple[int, ...], np.dtype]]) -> Network:
    """Makes the network that a config describes.

    Args:
        config: the family, its config, and the inputs.
        stored: shape and dtype of each leaf of the checkpoint, by path: the variables of a bare function.

    Raises:
        ConfigError: the family is unknown, fails, or returns something that is no network.
    """
    made = _call(_family(config.family), config)
    try:
        return _network(made, config, stored)
    except ConfigError:
        raise
    except Exception as error:  # the network is the operator's code: whatever it raises, they are told
        raise ConfigError(
            f"what family {config.family!r} returned cannot be made a network: {type(error).__name__}: {error}"
        ) from error


def _network(made: Any, config: ModelConfig, stored: Mapping[str, tuple[tuple[int, ...], np.dtype]]) -> Network:
    if isinstance(made, nn.Module):
        return linen_network(Linen(module=made), config)
    if isinstance(made, Linen):
        return linen_network(made, config)
    if isinstance(made, nnx.Module):
        return nnx_network(made, config)
    if isinstance(made, PureFunction):
        return function_network(made, config)
    if callable(made) and not isinstance(made, type):
        return function_network(PureFunction(apply=made, variables=nested(stored)), config)
    raise ConfigError(
        f"family {config.family!r} returned {_described(made)}; it must return a Linen module, an NNX module, "
        "or a function (variables, inputs) -> outputs"
    )


def _family(name: str) -> Family:
    if name in BUILTIN:
        return BUILTIN[name]
    module_name, _, attribute = name.partition(":")
    if not attribute:
        raise ConfigError(
            f"there is no builtin family {name!r} (there are {', '.join(BUILTIN)}); "
            "your own is named like 'my_package.my_module:build'"
        )
    try:
        family: Family = getattr(importlib.import_module(module_name), attribute)
    except Exception as error:  # importing runs the operator's code: whatever it raises, they are told
        raise ConfigError(
            f"family {name!r} cannot be imported: {type(error).__name__}: {error}; "
            "is its package installed, or on PYTHONPATH?"
        ) from error
    return family


def _described(made: object) -> str:
    return f"the class {made.__name__}, not an instance" if isinstance(made, type) else f"a {type(made).__name__}"


def _call(family: Family, config: ModelConfig) -> Any:
    try:
        return family(config.config)
    except ConfigError:
        raise
    except Exception as error:  # the family is the operator's code: whatever it raises, they are told
        raise ConfigError(
            f"family {config.family!r} failed on its config {dict(config.config)!r}: {type(error).__name__}: {error}"
        ) from error
