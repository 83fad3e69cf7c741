"""Flax NNX modules as networks."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import jax
from flax import nnx

from fluoroscope_server.families.linen import ROOT_OUTPUT
from fluoroscope_server.families.mark import mark_module_inputs, mark_module_output
from fluoroscope_server.families.network import make_network

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fluoroscope_server.families.network import Network, Variables
    from fluoroscope_server.model_config import ModelConfig


def nnx_network(module: nnx.Module, config: ModelConfig) -> Network:
    """Makes a network of an NNX module in evaluation mode, with every module's output marked.

    The module may be abstract (made under `nnx.eval_shape`). Inputs are passed by position.

    Raises:
        ConfigError: the module does not run on the inputs of the config.
    """
    module.eval()
    graph, random, *rest = nnx.split(module, nnx.RngState, ...)
    (state,) = rest
    random = jax.tree.map(_concrete, random)
    names = [spec.name for spec in config.inputs]

    def apply(variables: Variables, inputs: Mapping[str, jax.Array]) -> Any:
        fresh = jax.tree.map(lambda leaf: leaf, state)
        nnx.replace_by_pure_dict(fresh, variables)
        network = nnx.merge(graph, random, fresh)
        _mark_modules(network)
        return network(*(inputs[name] for name in names))

    variables = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), nnx.to_pure_dict(state))
    return make_network(apply, variables, config)


def _concrete(leaf: Any) -> Any:
    if not isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf
    if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.key(0)
    return jax.numpy.zeros(leaf.shape, leaf.dtype)


def _mark_modules(network: nnx.Module) -> None:
    """Gives each module of a network made inside a trace a class of its own that marks what it returns.

    Only these instances change, and they live as long as the trace: nothing that threads share.
    """
    open_paths: list[str] = []
    for place, module in nnx.iter_modules(network):
        if callable(module):
            path = "/".join(str(key) for key in place)
            object.__setattr__(module, "__class__", _marking_class(type(module), path, open_paths))


def _marking_class(base: type, path: str, open_paths: list[str]) -> type:
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807 (stands in for any module's own)
        args, kwargs = mark_module_inputs(args, kwargs, path or ROOT_OUTPUT)
        outer = open_paths[-1] + "/" if open_paths and open_paths[-1] else ""
        open_paths.append(path)
        try:
            with jax.named_scope(path.removeprefix(outer)) if path else contextlib.nullcontext():
                output = base.__call__(self, *args, **kwargs)
        finally:
            open_paths.pop()
        return mark_module_output(output, path or ROOT_OUTPUT)

    return type(base.__name__, (base,), {"__call__": __call__})
