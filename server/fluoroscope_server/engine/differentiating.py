"""Differentiating a network: the gradient of one scalar with respect to any of its values, as a function.

At each wanted value zeros are added, and the gradient is taken with respect to these: so it is of the value as later
equations read it, behind all edits, and the network itself stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from fluoroscope_server.engine import jaxprs
from fluoroscope_server.engine.editing import Write, rewritten
from fluoroscope_server.engine.flops import equation_flops
from fluoroscope_server.engine.plan import Objective
from fluoroscope_server.engine.reductions.arithmetic import widened
from fluoroscope_server.engine.site import ALL
from fluoroscope_server.engine.traced import TRACING
from fluoroscope_server.errors import NotCapturableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import jax.extend.core as jex

    from fluoroscope_server.engine.flat import FlatNetwork
    from fluoroscope_server.engine.naming import NamedValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Slope:
    """A value whose gradient is wanted, or an output that is."""

    value: NamedValue | None = None
    """A value of the network."""

    iterations: tuple[int, ...] = ()
    """Of a value in loops, which iteration of each; `ALL` for all, stacked."""

    variable: jex.Var | None = None
    """An input of the network or a parameter, in place of a value."""

    output: jaxprs.Atom | None = None
    """An output, in place of a value: as it is, not its gradient."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Differentiation:
    """A function that gives gradients, and what it takes."""

    inputs: tuple[jex.Var, ...]
    """The variables that it takes the values of."""

    function: Callable[..., tuple[jax.Array, ...]]
    """From the number of real rows and these to a gradient for each slope; to be traced by JAX."""

    flops: float
    """How many floating point operations it is."""


def differentiate(
    flat: FlatNetwork,
    slopes: Sequence[Slope],
    *,
    examples: Sequence[jex.Var],
    output: jaxprs.Atom,
    objective: Objective,
    indices: jex.Var,
) -> Differentiation:
    """Returns the gradients of a scalar. Traces them, which runs the derivatives that the network's author wrote.

    Args:
        flat: the network, in which functions have their derivatives; `indices` is one of its inputs.
        slopes: what is wanted.
        examples: those of its inputs that are a request's, padded to the batch size.
        output: what the scalar is made of.
        objective: how.
        indices: which elements of the last axis.

    Raises:
        NotCapturableError: JAX cannot differentiate what lies between.
    """
    network = _Network(flat, slopes, examples=examples, output=output, objective=objective, indices=indices)
    structures = [jaxprs.structure(variable) for variable in network.inputs]
    closed = jax.make_jaxpr(network.gradients)(jax.ShapeDtypeStruct((), jnp.int32), *structures)
    counted = jaxprs.flat_of(closed)
    flops = sum(equation_flops(counted.equations[number]) for number in counted.needed(counted.outputs))
    return Differentiation(inputs=network.inputs, function=network.gradients, flops=flops)


class _Network:
    """A network with zeros added where gradients are wanted."""

    def __init__(
        self,
        flat: FlatNetwork,
        slopes: Sequence[Slope],
        *,
        examples: Sequence[jex.Var],
        output: jaxprs.Atom,
        objective: Objective,
        indices: jex.Var,
    ) -> None:
        self.inputs = (*flat.jaxpr.constants, *flat.jaxpr.inputs)
        self._examples = [self.inputs.index(variable) for variable in examples]
        self._slopes, self._objective, self._indices = slopes, objective, self.inputs.index(indices)
        values = {slope.value.atom: slope.value for slope in slopes if slope.value is not None}
        self._values = list(values)
        self._zeros = [_structure(value) for value in values.values()]
        direct = dict.fromkeys(slope.variable for slope in slopes if slope.variable is not None)
        self._direct = [self.inputs.index(variable) for variable in direct]
        variables = jaxprs.variables_of(self._zeros)
        writes = [
            Write(value=value, function=jnp.add, arguments=(zeros,), stacked=((True,) * len(value.loops),))
            for value, zeros in zip(values.values(), variables, strict=True)
        ]
        outputs = [output, *(slope.output for slope in slopes if slope.output is not None)]
        network = rewritten(replace(flat, jaxpr=replace(flat.jaxpr, outputs=tuple(outputs))), writes, variables).jaxpr
        self._equations = [network.equations[number] for number in network.needed(network.outputs)]
        self._compute = jaxprs.function_of(self._equations, [*self.inputs, *variables], network.outputs)

    def gradients(self, rows: jax.Array, *inputs: jax.Array) -> tuple[jax.Array, ...]:
        """Returns what is wanted, given how many rows are real, and the values of the inputs."""
        arrays = list(inputs)
        for place in self._examples:
            arrays[place] = _filled(arrays[place], rows)

        def scalar(zeros: list[jax.Array], direct: list[jax.Array]) -> Any:
            given = list(arrays)
            for place, value in zip(self._direct, direct, strict=True):
                given[place] = value
            first, *outputs = self._compute(*given, *zeros)
            return _scalar(first, arrays[self._indices], self._objective), outputs

        zeros = [jnp.zeros(each.shape, each.dtype) for each in self._zeros]
        with TRACING:  # derivatives that the network's author wrote are traced only now
            (of_values, of_inputs), outputs = self._grad(scalar, zeros, [arrays[place] for place in self._direct])
        plain = iter(outputs)
        results = []
        for slope in self._slopes:
            if slope.value is not None:
                results.append(_iteration(slope, of_values[self._values.index(slope.value.atom)]))
            elif slope.variable is not None:
                results.append(of_inputs[self._direct.index(self.inputs.index(slope.variable))])
            else:
                results.append(next(plain))
        return tuple(results)

    def _grad(self, scalar: Callable[..., Any], *where: list[jax.Array]) -> Any:
        try:
            return jax.grad(scalar, argnums=(0, 1), has_aux=True)(*where)
        except Exception as error:  # whatever JAX, or a derivative that the author wrote, raises: it is of the network
            reason = "something in it has no derivative"
            if any(map(jaxprs.loops_without_end, self._equations)):
                reason = (
                    "it has a while loop in it, whose steps are not known before it runs, and cannot be run backwards"
                )
            raise NotCapturableError(
                f"the gradient asked for cannot be computed in this network: {reason}",
                field="gradient",
                reason="NOT_DIFFERENTIABLE",
            ) from error


def _filled(array: jax.Array, rows: jax.Array) -> jax.Array:
    """Returns an input whose rows behind the real ones are copies of the last of these.

    They do not count; but where a derivative at other values is infinite, as that of a norm is at zeros, it would make
    NaN of the zero that flows back to them, and with that of the gradients with respect to parameters.
    """
    return jnp.take(array, jnp.minimum(jnp.arange(len(array), dtype=jnp.int32), rows - 1), axis=0, mode="clip")


def _structure(value: NamedValue) -> jax.ShapeDtypeStruct:
    """Returns the structure of a value; in loops, of all iterations."""
    structure = jaxprs.structure(value.atom)
    return jax.ShapeDtypeStruct((*(loop.length for loop in value.loops), *structure.shape), structure.dtype)


def _iteration(slope: Slope, gradient: jax.Array) -> jax.Array:
    return gradient[tuple(slice(None) if each == ALL else each for each in slope.iterations)]


def _scalar(output: jax.Array, indices: jax.Array, objective: Objective) -> jax.Array:
    """Returns the scalar, in float32, or float64 where the output is; places with a negative index do not count."""
    scores = widened(output)
    scores = scores[:, None] if scores.ndim == 1 else scores
    if objective is Objective.CROSS_ENTROPY:
        scores = -jax.nn.log_softmax(scores, axis=-1)
    chosen = jnp.take_along_axis(scores, jnp.maximum(indices, 0)[..., None], axis=-1)[..., 0]
    return jnp.sum(jnp.where(indices < 0, jnp.zeros((), chosen.dtype), chosen))
