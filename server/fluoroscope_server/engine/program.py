"""Programs: compiled plans."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from fluoroscope_server.engine.compiling import compile_stages

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import jax

    from fluoroscope_server.engine.inspection import Inspection
    from fluoroscope_server.engine.plan import Plan
    from fluoroscope_server.engine.question import Question
    from fluoroscope_server.engine.stage import Stage

Results: TypeAlias = "tuple[tuple[jax.Array, ...], ...]"
"""For each captured value, then for each output, the arrays of its result, on the device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A plan, compiled for a device."""

    plan: Plan
    """What it computes."""

    stages: tuple[Stage, ...]
    """What runs, one after the other."""

    constants: Mapping[Any, Any]
    """The constants of the network, by variable."""

    variables: tuple[Any, ...]
    """What the leaves, the inputs, and the arguments of edits and of a gradient, in this order, are the values of."""

    flops: float
    """How many floating point operations it is, as `Flops` counts them."""

    compile_seconds: float
    """How long the compiler took."""

    peak_bytes: int = 0
    """The most memory that a stage takes on the device beside what is there before it, as XLA says."""

    @property
    def stage_count(self) -> int:
        """Returns how many stages bring results."""
        return sum(bool(stage.places) for stage in self.stages)

    def run(self, leaves: Sequence[jax.Array], inputs: Sequence[Any], inspection: Inspection) -> Iterator[Results]:
        """Starts stage after stage on the device, each when it is asked for; yields the results of each that has some.

        The results may not be there yet when they are yielded. What no later stage needs is let go.

        Args:
            leaves: the leaves of the network's variables.
            inputs: the inputs, padded to the bucket, in the order of the signature.
            inspection: the rows, starts, numbers and edits to run with; its plan must be this program's.
        """
        values = dict(self.constants)
        given = itertools.chain(leaves, inputs, inspection.arguments)
        values.update(zip(self.variables, given, strict=True))
        rows = np.asarray(inspection.rows, np.int32)
        for stage in self.stages:
            if stage.places:
                yield stage.run(values, rows, inspection)  # without a name here, which would hold them
            else:
                stage.run(values, rows, inspection)


def compile_program(question: Question, leaves: Sequence[jax.ShapeDtypeStruct]) -> Program:
    """Compiles a plan. Takes as long as XLA needs; safe on any thread.

    What no wanted value needs is left out of the program: a capture of an early layer costs that part of the network.
    """
    start = time.perf_counter()
    network = question.flat.jaxpr
    stages = compile_stages(question, leaves)
    return Program(
        plan=question.plan,
        stages=tuple(stages),
        constants=network.constants,
        variables=network.inputs,
        flops=question.flops,
        peak_bytes=max((stage.peak_bytes for stage in stages), default=0),
        compile_seconds=time.perf_counter() - start,
    )
