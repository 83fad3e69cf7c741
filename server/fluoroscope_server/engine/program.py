"""Programs: compiled plans."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.extend.core as jex
import numpy as np

from fluoroscope_server.engine import jaxprs
from fluoroscope_server.families import abstract_inputs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fluoroscope_server.engine.inspection import Inspection
    from fluoroscope_server.engine.plan import CapturedValue, Plan
    from fluoroscope_server.engine.traced import TracedNetwork
    from fluoroscope_server.signature import Signature

Results = tuple[tuple[jax.Array, ...], ...]
"""For each captured value, then for each output, the arrays of its result, on the device."""

Arguments = tuple[jax.Array, jax.Array]
"""For one captured value, where its cuts start, and the numbers of its reduction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A plan, compiled for a device."""

    plan: Plan
    """What it computes."""

    compile_seconds: float
    """How long the compiler took."""

    executable: Callable[..., Results]
    """`(leaves, inputs, rows, arguments) -> results`. Takes the shapes and dtypes it was compiled for, no others."""

    def run(self, leaves: Sequence[jax.Array], inputs: Sequence[Any], inspection: Inspection) -> Results:
        """Starts the program on the device; the results may not be there yet when this returns.

        Args:
            leaves: the leaves of the network's variables.
            inputs: the inputs, padded to the bucket, in the order of the signature.
            inspection: the rows, starts and numbers to run with; its plan must be this program's.
        """
        return self.executable(tuple(leaves), tuple(inputs), *_arguments(inspection))


def compile_program(
    plan: Plan, traced: TracedNetwork, signature: Signature, leaves: Sequence[jax.ShapeDtypeStruct]
) -> Program:
    """Compiles a plan. Takes as long as XLA needs; safe on any thread.

    What no wanted value needs is left out of the program: a capture of an early layer costs that part of the network.
    """
    start = time.perf_counter()
    function = _function(plan, traced, signature)
    inputs = abstract_inputs(signature.inputs, plan.bucket)
    arguments = tuple(
        (
            jax.ShapeDtypeStruct((len(value.cuts),), np.int32),
            jax.ShapeDtypeStruct((len(value.reduction.numbers),), np.float32),
        )
        for value in plan.captured
    )
    lowered = jax.jit(function).lower(tuple(leaves), inputs, jax.ShapeDtypeStruct((), np.int32), arguments)
    executable = lowered.compile()
    return Program(plan=plan, compile_seconds=time.perf_counter() - start, executable=executable)


def _arguments(inspection: Inspection) -> tuple[np.ndarray, tuple[tuple[np.ndarray, np.ndarray], ...]]:
    pairs = zip(inspection.starts, inspection.numbers, strict=True)
    return (
        np.asarray(inspection.rows, np.int32),
        tuple((np.asarray(starts, np.int32), np.asarray(numbers, np.float32)) for starts, numbers in pairs),
    )


def _function(plan: Plan, traced: TracedNetwork, signature: Signature) -> Callable[..., Results]:
    closed = traced.closed[plan.bucket]
    wanted = [traced.atoms[plan.bucket][value.site] for value in plan.captured]
    wanted += [closed.jaxpr.outvars[signature.output_names.index(name)] for name in plan.outputs]
    compute = jex.jaxpr_as_fun(jaxprs.pruned(closed, wanted))
    batch_axes = [traced.sites[value.site].batch_axis for value in plan.captured]

    def function(
        leaves: tuple[jax.Array, ...],
        inputs: tuple[jax.Array, ...],
        rows: jax.Array,
        arguments: tuple[Arguments, ...],
    ) -> Results:
        values = compute(*leaves, *inputs)
        captured = [
            _reduce(value, spec, axis, rows, each)
            for value, spec, axis, each in zip(values, plan.captured, batch_axes, arguments, strict=False)
        ]
        return (*captured, *((output,) for output in values[len(captured) :]))

    return function


def _reduce(
    value: jax.Array, spec: CapturedValue, batch_axis: int | None, rows: jax.Array, arguments: Arguments
) -> tuple[jax.Array, ...]:
    starts, numbers = arguments
    for cut, start in zip(spec.cuts, starts, strict=True):
        value = jax.lax.dynamic_slice_in_dim(value, start, cut.extent, axis=cut.axis)
        value = jax.lax.slice_in_dim(value, 0, cut.extent, stride=cut.step, axis=cut.axis)
    return spec.reduction.compute(value, _valid(value, spec, batch_axis, rows), numbers)


def _valid(value: jax.Array, spec: CapturedValue, batch_axis: int | None, rows: jax.Array) -> jax.Array | None:
    if batch_axis is None or any(cut.axis == batch_axis for cut in spec.cuts):
        return None
    shape = [size if axis == batch_axis else 1 for axis, size in enumerate(value.shape)]
    return jax.lax.broadcasted_iota(np.int32, shape, batch_axis) < rows
