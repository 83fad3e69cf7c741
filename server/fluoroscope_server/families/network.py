"""A network in the one form that the rest of the server knows: a pure function with a signature."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import numpy as np

from fluoroscope.wire import is_sendable
from fluoroscope_server.errors import ConfigError
from fluoroscope_server.signature import BATCH, Signature, TensorSpec

if TYPE_CHECKING:
    from fluoroscope_server.model_config import ModelConfig

Variables: TypeAlias = Any
"""A pytree of arrays: the weights and other collections of a network."""

Apply: TypeAlias = Callable[[Variables, Mapping[str, jax.Array]], Any]
"""A pure function from variables and named inputs to a pytree of outputs; its values are marked."""

SHAPE_ROWS = 3
"""The batch size used to ask for shapes; no other axis of a small network is likely to have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A pure function, the variables that it needs and the tensors that go in and out."""

    function: Callable[[Variables, tuple[jax.Array, ...]], tuple[jax.Array, ...]]
    """`(variables, inputs) -> outputs`, both in the order of the signature."""

    variables: Variables
    """The variables as a pytree of `jax.ShapeDtypeStruct`."""

    signature: Signature
    """The inputs and outputs."""

    root: str
    """The name that the network's own scope has in JAX's name stack; empty if it has none."""


def make_network(apply: Apply, variables: Variables, config: ModelConfig, *, root: str = "") -> Network:
    """Puts an adapted module or function into its final form, and finds the outputs' shapes.

    Raises:
        ConfigError: the network does not run on the inputs of the config, or the names of the
            outputs do not fit what it returns.
    """
    for spec in config.inputs:
        computed = jax.dtypes.canonicalize_dtype(spec.dtype)
        if computed != spec.dtype:
            raise ConfigError(
                f"input {spec.name!r} is {spec.dtype}, and JAX would make it {computed}: say {computed} in the config, "
                "or start the server with JAX_ENABLE_X64=1"
            )
    names = tuple(spec.name for spec in config.inputs)

    def function(values: Variables, inputs: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        return tuple(jax.tree.leaves(apply(values, dict(zip(names, inputs, strict=True)))))

    outputs = _output_specs(apply, variables, config)
    signature = Signature(inputs=config.inputs, outputs=outputs)
    return Network(function=function, variables=variables, signature=signature, root=root)


def abstract_inputs(inputs: tuple[TensorSpec, ...], rows: int) -> tuple[jax.ShapeDtypeStruct, ...]:
    """Returns the inputs of a batch of `rows` examples as shapes and dtypes."""
    return tuple(jax.ShapeDtypeStruct(spec.with_rows(rows), spec.dtype) for spec in inputs)


def _output_specs(apply: Apply, variables: Variables, config: ModelConfig) -> tuple[TensorSpec, ...]:
    few, more = (_abstract_outputs(apply, variables, config, rows) for rows in (SHAPE_ROWS, SHAPE_ROWS + 1))
    names = _output_names(few, config.outputs)
    pairs = zip(names, jax.tree.leaves(few), jax.tree.leaves(more), strict=True)
    return tuple(_output_spec(name, small, large) for name, small, large in pairs)


def _abstract_outputs(apply: Apply, variables: Variables, config: ModelConfig, rows: int) -> Any:
    inputs = dict(zip((spec.name for spec in config.inputs), abstract_inputs(config.inputs, rows), strict=True))
    try:
        return jax.eval_shape(apply, variables, inputs)
    except Exception as error:  # the network is the operator's code: whatever it raises, they are told
        specs = ", ".join(str(spec) for spec in config.inputs)
        raise ConfigError(f"the network does not run on inputs {specs}: {error}") from error


def _output_names(outputs: Any, named: tuple[str, ...]) -> tuple[str, ...]:
    """Returns a name for each leaf of what the network returns, in the order of the leaves."""
    places = [place for place, _ in jax.tree_util.tree_leaves_with_path(outputs)]
    if not places:
        raise ConfigError("the network returns nothing; it must return an array, or a pytree of arrays")
    if named and len(named) != len(places):
        raise ConfigError(
            f"the config names {len(named)} outputs ({', '.join(named)}), and the network returns {len(places)}"
        )
    if isinstance(outputs, Mapping) and all(len(place) == 1 for place in places):
        keys = tuple(jax.tree_util.keystr(place, simple=True) for place in places)
        if not named or set(named) == set(keys):
            return keys
        if len(keys) > 1:  # which is which would be a guess
            raise ConfigError(
                f"the config names the outputs {', '.join(named)}, and the network {', '.join(keys)}; "
                "use the network's names, or leave `outputs` out"
            )
    return named or (("output",) if len(places) == 1 else tuple(f"output_{index}" for index in range(len(places))))


def _output_spec(name: str, few: jax.ShapeDtypeStruct, more: jax.ShapeDtypeStruct) -> TensorSpec:
    if few.shape[:1] != (SHAPE_ROWS,) or more.shape != (SHAPE_ROWS + 1, *few.shape[1:]):
        raise ConfigError(
            f"output {name!r} has shape {few.shape} for a batch of {SHAPE_ROWS} and {more.shape} for {SHAPE_ROWS + 1}: "
            "the first axis of each output must be the batch"
        )
    dtype = np.dtype(few.dtype)
    if not is_sendable(dtype):
        raise ConfigError(f"output {name!r} is {dtype}, and the contract has no such type: let the network cast it")
    return TensorSpec(name=name, dtype=dtype, shape=(BATCH, *few.shape[1:]))
