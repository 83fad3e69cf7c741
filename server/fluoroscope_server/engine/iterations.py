"""A loop as stages: iteration after iteration, so that the values of one are sent while the next are computed.

All iterations in which the same values are captured run the same compiled stage, which is told which one it is; those
between them, in which nothing is captured, run together in another.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from fluoroscope_server.engine.looping import run_length, wanted_ys
from fluoroscope_server.engine.running import Iteration, read
from fluoroscope_server.engine.steps import variables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fluoroscope_server.engine.captures import Arrays, Captures
    from fluoroscope_server.engine.compiling import Compiler
    from fluoroscope_server.engine.stage import Key, Stage
    from fluoroscope_server.engine.steps import Looped, Wanted


def loop_stages(step: Looped, compiler: Compiler) -> Iterator[Stage]:
    """Compiles the stages of a loop."""
    return _Iterations(step, compiler).stages()


class _Iterations:
    def __init__(self, step: Looped, compiler: Compiler) -> None:
        self._step, self._loop, self._compiler = step, step.loop, compiler
        self._ys = wanted_ys(step)
        self._state: list[Key] = [
            (step.loop, "state", index) for index in range(self._loop.carry_count + len(self._ys))
        ]
        self._outside = list(dict.fromkeys(variables(self._loop.inputs)))
        self._compiled: dict[Any, Stage] = {}

    def stages(self) -> Iterator[Stage]:
        yield self._compiler.stage(self._begin, self._outside, self._state, ())
        at: dict[int, list[Wanted]] = {}
        for each in self._step.wanted:
            at.setdefault(self._loop.index_at(each.iteration or 0), []).append(each.inside())
        length = self._loop.length if self._step.outputs else run_length(self._loop, self._step.wanted)
        position = 0
        for wanted in sorted(at):
            if wanted > position:
                yield self._between(position, wanted)
            position = wanted + 1
            yield self._capturing(wanted, at[wanted], ends=position == length and not self._step.outputs)
        if position < length:
            yield self._between(position, length)
        yield from self._end()

    def _begin(self, values: Any, scalars: Any, rows: Any, arguments: Any) -> Any:  # noqa: ARG002 (every stage has them)
        """Makes the state: the carry, and room for the ys that are needed behind the loop."""
        _, carry, _ = self._split(values)
        ys = self._loop.body.outputs[self._loop.carry_count :]
        shapes = [(self._loop.length, *ys[index].aval.shape) for index in self._ys]
        rooms = [jnp.zeros(shape, ys[index].aval.dtype) for shape, index in zip(shapes, self._ys, strict=True)]
        return (*carry, *rooms), ()

    def _capturing(self, position: int, wanted: Sequence[Wanted], *, ends: bool) -> Stage:
        """Returns the stage of one iteration in which something is captured.

        If it `ends` the loop, and there is no stage for others like it, what is behind its last value is left out.
        """
        places = [each.place for each in wanted]
        plan = self._compiler.question.plan
        kind = tuple(
            (id(each.atom), each.iterations, plan.captured[each.place].cuts, plan.captured[each.place].reduction)
            for each in wanted
        )
        if kind not in self._compiled:
            iteration = Iteration(self._loop, self._ys, wanted, ends=ends)

            def run(values: Any, scalars: Any, rows: Any, arguments: Any) -> Any:
                captures = self._compiler.captures(places, rows, arguments)
                state, found = self._iterate(iteration, values, scalars[0], captures)
                return state, tuple(found[place] for place in places)

            self._compiled[kind] = self._compile(run, places, (position,), ends=ends)
        return replace(self._compiled[kind], places=tuple(places), scalars=(position,))

    def _between(self, start: int, stop: int) -> Stage:
        """Returns the stage of iterations in which nothing is captured."""
        if None not in self._compiled:
            iteration = Iteration(self._loop, self._ys, [])

            def run(values: Any, scalars: Any, rows: Any, arguments: Any) -> Any:
                captures = self._compiler.captures((), rows, arguments)
                outside = values[: len(self._outside)]

                def one(position: Any, state: Any) -> Any:
                    return self._iterate(iteration, (*outside, *state), position, captures)[0]

                return jax.lax.fori_loop(scalars[0], scalars[1], one, tuple(values[len(self._outside) :])), ()

            self._compiled[None] = self._compile(run, (), (start, stop))
        return replace(self._compiled[None], scalars=(start, stop))

    def _end(self) -> Iterator[Stage]:
        """Yields the stage that gives the state its names behind the loop, if anybody needs them there."""
        outputs = list(self._step.outputs)
        if not outputs:
            return
        names = [*self._loop.outputs[: self._loop.carry_count]]
        names += [self._loop.outputs[self._loop.carry_count + index] for index in self._ys]
        keys = [self._state[names.index(variable)] for variable in outputs]
        yield self._compiler.stage(lambda values, *_: (tuple(values), ()), keys, outputs, ())

    def _compile(
        self, run: Callable[..., Any], places: Sequence[int], scalars: Sequence[int], *, ends: bool = False
    ) -> Stage:
        state = [] if ends else self._state
        return self._compiler.stage(run, [*self._outside, *self._state], state, places, scalars)

    def _iterate(
        self, iteration: Iteration, values: Any, position: Any, captures: Captures
    ) -> tuple[tuple[Any, ...], dict[int, Arrays]]:
        """Returns the state behind one iteration, and its results."""
        consts, _, xs = self._split(values[: len(self._outside)])
        state = values[len(self._outside) :]
        index = self._loop.length - 1 - position if self._loop.reverse else position
        x = [jax.lax.dynamic_index_in_dim(each, index, keepdims=False) for each in xs]
        carry, ys, found = iteration(consts, state[: self._loop.carry_count], x, captures)
        rooms = state[self._loop.carry_count :]
        filled = [jax.lax.dynamic_update_index_in_dim(room, y, index, 0) for room, y in zip(rooms, ys, strict=True)]
        return (*carry, *filled), found

    def _split(self, values: Any) -> tuple[list[Any], list[Any], list[Any]]:
        known = dict(zip(self._outside, values, strict=True))
        return self._loop.split_inputs([read(atom, known) for atom in self._loop.inputs])
