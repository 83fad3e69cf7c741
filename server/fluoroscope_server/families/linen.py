"""Flax Linen modules as networks."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax

from fluoroscope_server.errors import ConfigError
from fluoroscope_server.families.mark import mark_module_inputs, mark_module_output
from fluoroscope_server.families.network import (
    SHAPE_ROWS,
    abstract_inputs,
    make_network,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fluoroscope_server.families.network import (
        Network,
        Variables,
    )
    from fluoroscope_server.model_config import ModelConfig

ROOT_OUTPUT = "__call__"
"""The path of the root module's own output, as `capture_intermediates` names it."""

_TRANSIENT = ("intermediates", "perturbations")


@dataclass(frozen=True, slots=True, kw_only=True)
class Linen:
    """A Linen module and how to call it, for families whose module needs more than its inputs."""

    module: nn.Module
    """The module, unbound."""

    method: str = "__call__"
    """The method that predicts."""

    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Further keyword arguments of the method, static: `{"train": False}`."""


def linen_network(linen: Linen, config: ModelConfig) -> Network:
    """Makes a network of a Linen module, with every module's output marked.

    Inputs are passed by name if all their names are parameters of the method, else by position.

    Raises:
        ConfigError: the module does not run on the inputs of the config.
    """
    call = _caller(linen, config)

    def apply(variables: Variables, inputs: Mapping[str, jax.Array]) -> Any:
        args, kwargs = call(inputs)
        with nn.intercept_methods(_marking()):
            return linen.module.apply(variables, *args, method=linen.method, **kwargs)

    return make_network(
        apply, _abstract_variables(linen, config, call), config, root=linen.module.name or type(linen.module).__name__
    )


def _marking() -> Callable[..., Any]:
    """Returns an interceptor, for one trace, that marks what each method takes and returns."""
    open_calls: list[tuple[object, str]] = []

    def mark_output(
        next_function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: nn.module.InterceptorContext,
    ) -> Any:
        call = (context.module.scope, context.method_name)
        is_super_call = call in open_calls[-1:]  # a class that calls its base's method is one module, not two
        is_private = context.method_name.startswith("_") and context.method_name != "__call__"
        if is_super_call or is_private or context.method_name == "setup":  # parts of how the module does it
            return _within(open_calls, call, next_function, args, kwargs)
        names = [] if context.method_name == "__call__" else [context.method_name]
        path = "/".join([*context.module.path, *names]) or ROOT_OUTPUT
        args, kwargs = mark_module_inputs(args, kwargs, path)
        return mark_module_output(_within(open_calls, call, next_function, args, kwargs), path)

    return mark_output


def _within(
    open_calls: list[tuple[object, str]],
    call: tuple[object, str],
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> Any:
    """Calls a function, and says meanwhile that it is being called."""
    open_calls.append(call)
    try:
        return function(*args, **kwargs)
    finally:
        open_calls.pop()


def _caller(linen: Linen, config: ModelConfig) -> Callable[[Mapping[str, Any]], tuple[list[Any], dict[str, Any]]]:
    method = getattr(type(linen.module), linen.method, None)
    if method is None:
        raise ConfigError(f"{type(linen.module).__name__} has no method {linen.method!r}")
    names = [spec.name for spec in config.inputs]
    parameters = inspect.signature(method).parameters
    takes_any = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values())
    by_name = takes_any or set(names) <= set(parameters)

    def call(inputs: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        if by_name:
            return [], {**inputs, **linen.arguments}
        return [inputs[name] for name in names], dict(linen.arguments)

    return call


def _abstract_variables(
    linen: Linen, config: ModelConfig, call: Callable[[Mapping[str, Any]], tuple[list[Any], dict[str, Any]]]
) -> Variables:
    def init(key: jax.Array, inputs: tuple[jax.Array, ...]) -> Variables:
        args, kwargs = call(dict(zip((spec.name for spec in config.inputs), inputs, strict=True)))
        rngs = {"params": key, "dropout": key}
        return linen.module.init(rngs, *args, method=linen.method, **kwargs)

    try:
        variables = jax.eval_shape(init, jax.random.key(0), abstract_inputs(config.inputs, SHAPE_ROWS))
    except Exception as error:  # the module is the operator's code: whatever it raises, they are told
        specs = ", ".join(str(spec) for spec in config.inputs)
        raise ConfigError(f"{type(linen.module).__name__} does not run on inputs {specs}: {error}") from error
    kept = {name: tree for name, tree in variables.items() if name not in _TRANSIENT}
    return nn.meta.unbox(kept)
