"""A question: a plan put to a network, as the steps that answer it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import jax
import numpy as np

from fluoroscope_server.engine import jaxprs
from fluoroscope_server.engine.differentiating import Slope, differentiate
from fluoroscope_server.engine.editing import edited
from fluoroscope_server.engine.flops import equation_flops
from fluoroscope_server.engine.plan import Origin
from fluoroscope_server.engine.reductions import ValueSpec
from fluoroscope_server.engine.steps import Looped, Wanted, can_iterate, split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fluoroscope_server.engine.differentiating import Differentiation
    from fluoroscope_server.engine.flat import FlatNetwork
    from fluoroscope_server.engine.plan import CapturedValue, Plan, PlannedGradient
    from fluoroscope_server.engine.steps import Step
    from fluoroscope_server.engine.traced import TracedNetwork

STAGE_BYTES = 1 << 20
"""A stage ends behind the captured value with which it has so many bytes to send."""

STAGE_FRACTION = 1 / 32
"""A stage ends, too, behind the captured value with which it does this part of the whole work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a program must do to answer a plan."""

    plan: Plan
    """The plan."""

    flat: FlatNetwork
    """The network, for the plan's batch size."""

    steps: tuple[Step, ...]
    """What must be computed, in order; cut where stages may end if the plan is staged."""

    batch_axes: tuple[int | None, ...]
    """Which axis of each captured value is the batch."""

    gradient: Differentiation | None = None
    """What must be computed in place of steps, if it is a gradient."""

    @property
    def stage_count(self) -> int:
        """Returns how many stages will bring results."""
        if not self.plan.staged:
            return 1
        return sum(
            len({each.iteration for each in step.wanted}) if isinstance(step, Looped) and can_iterate(step) else 1
            for step in self.steps
            if step.wanted
        )

    @property
    def flops(self) -> float:
        """Returns how many floating point operations the steps are."""
        return sum(step.flops for step in self.steps) if self.gradient is None else self.gradient.flops


def pose(plan: Plan, traced: TracedNetwork) -> Question:
    """Puts a plan to a network. Compiles nothing.

    Raises:
        NotCapturableError: the plan is of a gradient, and JAX cannot differentiate the network.
    """
    if plan.gradient is not None:
        return _pose_gradient(plan, plan.gradient, traced)
    flat = traced.flat[plan.bucket]
    if plan.edits:
        flat = edited(flat, plan.edits, input_count=len(traced.signature.inputs))
    found = _Found(flat, traced)
    wanted = [found.wanted(place, captured) for place, captured in enumerate(plan.captured)]
    staged = plan.staged and not flat.jaxpr.has_references
    cuts = _cuts(flat, plan.captured, wanted) if staged else []
    return Question(
        plan=plan,
        flat=flat,
        steps=tuple(split(flat.jaxpr, flat.loops, wanted, (), cuts=cuts)),
        batch_axes=tuple(map(found.batch_axis, plan.captured)),
    )


def _pose_gradient(plan: Plan, gradient: PlannedGradient, traced: TracedNetwork) -> Question:
    values = traced.values[plan.bucket]
    opened = {edit.value for edit in plan.edits if values[edit.value].opaque}
    flat = traced.differentiable(plan.bucket, opened)
    if plan.edits:
        flat = edited(flat, plan.edits, input_count=len(traced.signature.inputs))
    output = flat.jaxpr.outputs[traced.signature.output_names.index(gradient.output)]
    shape = jaxprs.structure(output).shape
    (indices,) = jaxprs.variables_of([jax.ShapeDtypeStruct(shape[:-1] or shape, np.int32)])
    flat = replace(flat, jaxpr=replace(flat.jaxpr, inputs=(*flat.jaxpr.inputs, indices)))
    found = _Found(flat, traced)
    return Question(
        plan=plan,
        flat=flat,
        steps=(),
        batch_axes=tuple(map(found.batch_axis, plan.captured)),
        gradient=differentiate(
            flat,
            [found.slope(captured) for captured in plan.captured],
            examples=flat.jaxpr.inputs[traced.leaf_count :][: len(traced.signature.inputs)],
            output=output,
            objective=gradient.objective,
            indices=indices,
        ),
    )


class _Found:
    """What captured values are in a flat network."""

    def __init__(self, flat: FlatNetwork, traced: TracedNetwork) -> None:
        self._flat, self._traced, self._sites = flat, traced, traced.sites
        self._values = {value.path: value for value in flat.values}
        self._outputs = dict(zip(traced.signature.output_names, flat.jaxpr.outputs, strict=True))

    def wanted(self, place: int, captured: CapturedValue) -> Wanted:
        if captured.origin is Origin.OUTPUT:
            return Wanted(place=place, atom=self._outputs[captured.site])
        site = self._sites[captured.site]
        value = self._values[site.value]
        return Wanted(place=place, atom=value.atom, loops=value.loops, iterations=site.iterations)

    def slope(self, captured: CapturedValue) -> Slope:
        match captured.origin:
            case Origin.OUTPUT:
                return Slope(output=self._outputs[captured.site])
            case Origin.SITE:
                site = self._sites[captured.site]
                return Slope(value=self._values[site.value], iterations=site.iterations)
            case Origin.PARAMETER:
                return Slope(variable=self._flat.jaxpr.inputs[self._traced.parameters[captured.site].order])
            case Origin.INPUT:
                number = self._traced.leaf_count + self._traced.signature.input_names.index(captured.site)
                return Slope(variable=self._flat.jaxpr.inputs[number])

    def batch_axis(self, captured: CapturedValue) -> int | None:
        if captured.origin is Origin.SITE:
            return self._sites[captured.site].batch_axis
        return None if captured.origin is Origin.PARAMETER else 0


def _cuts(flat: FlatNetwork, captured: Sequence[CapturedValue], wanted: Sequence[Wanted]) -> list[int]:
    """Returns the numbers of the equations behind which a stage ends."""
    equations = flat.jaxpr.equations
    made = {variable: number for number, equation in enumerate(equations) for variable in equation.outvars}
    sizes: dict[int, int] = {}
    for value, each in zip(captured, wanted, strict=True):
        if each.loop is None and not jaxprs.is_literal(each.atom) and each.atom in made:
            number = made[each.atom]
            sizes[number] = sizes.get(number, 0) + _byte_size(value, each.atom)
    counts = [equation_flops(equation) for equation in equations]
    enough = STAGE_FRACTION * sum(counts)
    cuts, size, work = [], 0, 0.0
    for number, count in enumerate(counts):
        work += count
        size += sizes.get(number, 0)
        if number in sizes and (size >= STAGE_BYTES or work >= enough):
            cuts.append(number)
            size, work = 0, 0.0
    return cuts


def _byte_size(captured: CapturedValue, atom: jaxprs.Atom) -> int:
    """Returns how many bytes a captured value will send."""
    shape = list(atom.aval.shape)
    for cut in captured.cuts:
        shape[cut.axis] = -(-cut.extent // cut.step)
    value = ValueSpec(site=captured.site, dtype=np.dtype(atom.aval.dtype), shape=tuple(shape))
    return sum(math.prod(part.shape) * part.dtype.itemsize for part in captured.reduction.parts(value))
