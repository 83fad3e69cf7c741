"""Compiling a question: from steps to stages."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from fluoroscope_server.engine import jaxprs
from fluoroscope_server.engine.arguments import split_arguments, structure_of
from fluoroscope_server.engine.captures import Captures
from fluoroscope_server.engine.iterations import loop_stages
from fluoroscope_server.engine.once import Once
from fluoroscope_server.engine.running import run_steps
from fluoroscope_server.engine.stage import Stage
from fluoroscope_server.engine.steps import Looped, can_iterate

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

    from fluoroscope_server.engine.arguments import Arguments
    from fluoroscope_server.engine.differentiating import Differentiation
    from fluoroscope_server.engine.plan import CapturedValue
    from fluoroscope_server.engine.question import Question
    from fluoroscope_server.engine.stage import Key
    from fluoroscope_server.engine.steps import Step

_UNSAID = ("jax.const", "callback")
"""Words in the text of a program that stand for something outside of it: constants as arguments, Python functions."""


class Compiler:
    """Compiles the stages of one question."""

    def __init__(self, question: Question, given: Mapping[Any, jax.ShapeDtypeStruct]) -> None:
        """Takes the question, and the structure of what is known before the first stage, by variable."""
        self.question = question
        self._structures: dict[Key, jax.ShapeDtypeStruct] = dict(given)
        self._executables: dict[Hashable, Any] = {}

    def stages(self) -> list[Stage]:
        """Compiles everything: one stage if the plan is fused, else one for each step or iteration."""
        steps, gradient = self.question.steps, self.question.gradient
        if gradient is not None:
            return [self._of_gradient(gradient)]
        found = list(self._of_steps(steps)) if not self.question.plan.staged else list(self._staged())
        return _released(found, keep=set())

    def stage(
        self,
        function: Callable[..., Any],
        inputs: Sequence[Key],
        outputs: Sequence[Key],
        places: Sequence[int],
        scalars: Sequence[int] = (),
    ) -> Stage:
        """Compiles a function of one stage; see `Stage`."""
        shapes = tuple(self._structures[key] for key in inputs)
        numbers = tuple(jax.ShapeDtypeStruct((), np.int32) for _ in scalars)
        arguments = structure_of(self._captured(places))
        once = Once(function)
        executable, structures = self._compiled(once, (shapes, numbers, jax.ShapeDtypeStruct((), np.int32), arguments))
        given, _ = once.whole(structures)
        self.learn(outputs, given)
        return Stage(
            executable=executable,
            whole=once.whole,
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            places=tuple(places),
            scalars=tuple(scalars),
        )

    def _compiled(self, once: Once, arguments: tuple[Any, ...]) -> tuple[Any, Any]:
        """Returns a function compiled for arguments like these, and what it returns.

        Layers of a network are often the same but for their weights, and so are their stages: what is the same, down to
        the text that is compiled, is compiled once.
        """
        if not self.question.plan.staged:
            lowered = jax.jit(once).lower(*arguments)
            return lowered.compile(), lowered.out_info
        named = jax.jit(once, keep_unused=True).lower(*arguments)  # else the text would not say which are used
        text = named.as_text()
        key: Hashable = (jax.tree.structure(arguments), hashlib.sha256(text.encode()).digest())
        if any(word in text for word in _UNSAID):
            key = object()
        if key not in self._executables:
            self._executables[key] = jax.jit(once).lower(*arguments).compile()
        return self._executables[key], named.out_info

    def learn(self, keys: Sequence[Key], given: Sequence[Any]) -> None:
        """Takes note of the structure of values between stages."""
        structures = [jax.ShapeDtypeStruct(each.shape, each.dtype) for each in given]
        self._structures.update(zip(keys, structures, strict=True))

    def captures(self, places: Sequence[int], rows: Any, arguments: Arguments) -> Captures:
        """Returns the captures of one stage, while JAX traces it."""
        return Captures(
            captured=self.question.plan.captured,
            batch_axes=self.question.batch_axes,
            rows=rows,
            arguments=split_arguments(self._captured(places), places, arguments),
        )

    def _captured(self, places: Sequence[int]) -> list[CapturedValue]:
        return [self.question.plan.captured[place] for place in places]

    def _staged(self) -> Iterator[Stage]:
        for step in self.question.steps:
            if isinstance(step, Looped) and can_iterate(step):
                yield from loop_stages(step, self)
            else:
                yield from self._of_steps([step])

    def _of_gradient(self, gradient: Differentiation) -> Stage:
        """Returns the one stage that computes gradients."""
        places = range(len(self.question.plan.captured))

        def function(values: Any, scalars: Any, rows: Any, arguments: Any) -> Any:  # noqa: ARG001 (there are none)
            captures = self.captures(places, rows, arguments)
            found = gradient.function(rows, *values)
            return (), tuple(captures.reduce(place, value) for place, value in zip(places, found, strict=True))

        return self.stage(function, gradient.inputs, (), places)

    def _of_steps(self, steps: Sequence[Step]) -> Iterator[Stage]:
        """Yields the one stage that runs all these steps; none if there are no steps."""
        if not steps:
            return
        made = {variable for step in steps for variable in step.outputs}
        inputs = list(dict.fromkeys(each for step in steps for each in step.inputs if each not in made))
        outputs = list(steps[-1].outputs) if len(steps) == 1 else []
        places = [each.place for step in steps for each in step.wanted]

        def function(values: Any, scalars: Any, rows: Any, arguments: Any) -> Any:  # noqa: ARG001 (there are none)
            known = dict(zip(inputs, values, strict=True))
            captures = self.captures(places, rows, arguments)
            results = run_steps(steps, known, captures)
            return tuple(known[key] for key in outputs), tuple(results[place] for place in places)

        yield self.stage(function, inputs, outputs, places)


def compile_stages(question: Question, leaves: Sequence[jax.ShapeDtypeStruct]) -> list[Stage]:
    """Compiles a question for leaves of these shapes, dtypes and shardings. Takes as long as XLA needs."""
    network = question.flat.jaxpr
    given = {variable: jaxprs.structure(variable) for variable in (*network.inputs, *network.constants)}
    given.update(zip(network.inputs, leaves, strict=False))
    return Compiler(question, given).stages()


def _released(stages: Sequence[Stage], keep: set[Key]) -> list[Stage]:
    """Returns the stages, each with those values that no later one needs."""
    needed = set(keep)
    found = []
    for stage in reversed(stages):
        known = dict.fromkeys([*stage.inputs, *stage.outputs])
        found.append(replace(stage, released=tuple(key for key in known if key not in needed)))
        needed.update(stage.inputs)
    return found[::-1]
