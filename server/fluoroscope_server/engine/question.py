"""A question: a plan put to a network, as the steps that answer it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fluoroscope_server.engine import jaxprs
from fluoroscope_server.engine.editing import edited
from fluoroscope_server.engine.flops import equation_flops
from fluoroscope_server.engine.reductions import ValueSpec
from fluoroscope_server.engine.steps import Looped, Wanted, can_iterate, split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fluoroscope_server.engine.flat import FlatNetwork
    from fluoroscope_server.engine.plan import CapturedValue, Plan
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
        return sum(step.flops for step in self.steps)


def pose(plan: Plan, traced: TracedNetwork) -> Question:
    """Puts a plan to a network. Compiles nothing."""
    flat, values = traced.flat[plan.bucket], traced.values[plan.bucket]
    if plan.edits:
        flat = edited(flat, plan.edits, input_count=len(traced.signature.inputs))
        values = {value.path: value for value in flat.values}
    wanted: list[Wanted] = []
    batch_axes: list[int | None] = []
    for place, captured in enumerate(plan.captured):
        if captured.is_output:
            atom = flat.jaxpr.outputs[traced.signature.output_names.index(captured.site)]
            wanted.append(Wanted(place=place, atom=atom))
            batch_axes.append(0)
            continue
        site = traced.sites[captured.site]
        value = values[site.value]
        wanted.append(Wanted(place=place, atom=value.atom, loop=value.loop, iteration=site.iteration))
        batch_axes.append(site.batch_axis)
    staged = plan.staged and not flat.jaxpr.has_references
    cuts = _cuts(flat, plan.captured, wanted) if staged else []
    return Question(
        plan=plan,
        flat=flat,
        steps=tuple(split(flat, wanted, (), cuts=cuts)),
        batch_axes=tuple(batch_axes),
    )


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
