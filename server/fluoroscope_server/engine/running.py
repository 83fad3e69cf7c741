"""Running steps inside a program that JAX is tracing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fluoroscope_server.engine import jaxprs
from fluoroscope_server.engine.looping import run_loop
from fluoroscope_server.engine.steps import Looped, split, variables

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping, Sequence

    import jax
    import jax.extend.core as jex

    from fluoroscope_server.engine.captures import Arrays, Captures
    from fluoroscope_server.engine.loop import Loop
    from fluoroscope_server.engine.steps import Step, Straight, Wanted


class Iteration:
    """One iteration of a loop: from constants, carry and x to the carry, the wanted ys, and the results in its body.

    The body is a network of its own: a loop in it, in whose body something is captured, is run as any other.
    """

    def __init__(self, loop: Loop, ys: Sequence[int], wanted: Sequence[Wanted], *, ends: bool = False) -> None:
        """Takes the loop, which of its ys are wanted, which values of its body, and whether no iteration follows.

        Then the carry is left out, and with it what is behind the last wanted value.
        """
        carry, every = loop.body.outputs[: loop.carry_count], loop.body.outputs[loop.carry_count :]
        carry = () if ends else carry
        self._body, self._carry_count = loop.body, len(carry)
        self._outputs = [*carry, *(every[index] for index in ys)]
        self._steps = split(loop.body, loop.loops, wanted, self._outputs)

    def __call__(
        self, consts: Sequence[Any], carry: Sequence[Any], x: Sequence[Any], captures: Captures
    ) -> tuple[list[jax.Array], list[jax.Array], dict[int, Arrays]]:
        """Returns the carry, the wanted ys, and the results by their place in the plan."""
        values: dict[jex.Var, Any] = dict(self._body.constants)
        values.update(zip(self._body.inputs, [*consts, *carry, *x], strict=True))
        results = run_steps(self._steps, values, captures)
        outputs = [read(atom, values) for atom in self._outputs]
        return outputs[: self._carry_count], outputs[self._carry_count :], results


def run_steps(
    steps: Sequence[Step], values: MutableMapping[jex.Var, jax.Array], captures: Captures
) -> dict[int, Arrays]:
    """Runs steps; adds their outputs to `values`, and returns their results by their place in the plan.

    Args:
        steps: the steps.
        values: what is known before the first, its inputs at least.
        captures: what to compute of captured values.
    """
    results: dict[int, Arrays] = {}
    for step in steps:
        made, found = _run_step(step, values, captures)
        values.update(made)
        results.update(found)
    return results


def read(atom: jaxprs.Atom, values: Mapping[jex.Var, jax.Array]) -> jax.Array:
    """Returns the value of an atom."""
    return jaxprs.literal_value(atom) if jaxprs.is_literal(atom) else values[atom]


def _run_step(
    step: Step, values: Mapping[jex.Var, jax.Array], captures: Captures
) -> tuple[dict[jex.Var, jax.Array], dict[int, Arrays]]:
    """Returns the outputs of a step, and its results."""
    if isinstance(step, Looped):
        return run_loop(step, [read(atom, values) for atom in step.loop.inputs], captures, Iteration)
    made = _run_equations(step, values)
    known = {**values, **made}
    results = {each.place: captures.reduce(each.place, read(each.atom, known)) for each in step.wanted}
    return {variable: made[variable] for variable in step.outputs}, results


def _run_equations(step: Straight, values: Mapping[jex.Var, jax.Array]) -> dict[jex.Var, jax.Array]:
    """Returns those values of the equations that somebody needs."""
    made = {variable for equation in step.equations for variable in equation.outvars}
    taken = dict.fromkeys(atom for equation in step.equations for atom in variables(equation.invars))
    inputs = [variable for variable in taken if variable not in made]
    wanted = [atom for atom in variables(each.atom for each in step.wanted) if atom in made]
    outputs = list(dict.fromkeys([*step.outputs, *wanted]))
    function = jaxprs.function_of(step.equations, inputs, outputs)
    return dict(zip(outputs, function(*(values[variable] for variable in inputs)), strict=True))
