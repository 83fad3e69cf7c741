"""Running a step inside a program that JAX is tracing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fluoroscope_server.engine import jaxprs
from fluoroscope_server.engine.looping import run_loop
from fluoroscope_server.engine.steps import Looped, variables

if TYPE_CHECKING:
    from collections.abc import Mapping

    import jax
    import jax.extend.core as jex

    from fluoroscope_server.engine.captures import Arrays, Captures
    from fluoroscope_server.engine.steps import Step, Straight


def run_step(
    step: Step, values: Mapping[jex.Var, jax.Array], captures: Captures
) -> tuple[dict[jex.Var, jax.Array], dict[int, Arrays]]:
    """Returns the outputs of a step, and its results by their place in the plan.

    Args:
        step: the step.
        values: the inputs of the step, at least.
        captures: what to compute of captured values.
    """
    if isinstance(step, Looped):
        return run_loop(step, [read(atom, values) for atom in step.loop.inputs], captures)
    made = _run_equations(step, values)
    known = {**values, **made}
    results = {each.place: captures.reduce(each.place, read(each.atom, known)) for each in step.wanted}
    return {variable: made[variable] for variable in step.outputs}, results


def read(atom: jaxprs.Atom, values: Mapping[jex.Var, jax.Array]) -> jax.Array:
    """Returns the value of an atom."""
    return jaxprs.literal_value(atom) if jaxprs.is_literal(atom) else values[atom]


def _run_equations(step: Straight, values: Mapping[jex.Var, jax.Array]) -> dict[jex.Var, jax.Array]:
    """Returns those values of the equations that somebody needs."""
    made = {variable for equation in step.equations for variable in equation.outvars}
    taken = dict.fromkeys(atom for equation in step.equations for atom in variables(equation.invars))
    inputs = [variable for variable in taken if variable not in made]
    wanted = [atom for atom in variables(each.atom for each in step.wanted) if atom in made]
    outputs = list(dict.fromkeys([*step.outputs, *wanted]))
    function = jaxprs.function_of(step.equations, inputs, outputs)
    return dict(zip(outputs, function(*(values[variable] for variable in inputs)), strict=True))
