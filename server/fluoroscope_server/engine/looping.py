"""Running a loop in whose body values are captured.

The loop runs no further than somebody needs. Values of few iterations are captured by taking these iterations out of
the loop; values of many, in the body: what is reduced is reduced there, so that it is never stacked first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from fluoroscope_server.engine.site import ALL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import jax.extend.core as jex

    from fluoroscope_server.engine import jaxprs
    from fluoroscope_server.engine.captures import Arrays, Captures
    from fluoroscope_server.engine.loop import Loop
    from fluoroscope_server.engine.steps import Looped, Wanted

FEW = 4
"""How many iterations are taken out of a loop, each compiled by itself."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Group:
    """Captured values that are the same value of the body, reduced alike, in several iterations."""

    atom: jaxprs.Atom
    """The value, in the body."""

    places: dict[int, int]
    """Their places in the plan, by position: how many iterations have run before."""

    stacked: tuple[int, ...]
    """The places in the plan of those that are the values of all iterations."""


class IterationFunction:
    """One iteration: from constants, carry and x to the carry, the wanted ys, and captured values."""

    def __init__(self, loop: Loop, ys: Sequence[int], atoms: Sequence[jaxprs.Atom]) -> None:
        """Takes the loop, which of its ys are wanted, and which values of its body."""
        outputs = loop.body.outputs
        carry, all_ys = outputs[: loop.carry_count], outputs[loop.carry_count :]
        self._carry_count, self._ys_count = loop.carry_count, len(ys)
        self._function = loop.body.function([*carry, *(all_ys[index] for index in ys), *atoms])

    def __call__(
        self, consts: Sequence[Any], carry: Sequence[Any], x: Sequence[Any]
    ) -> tuple[list[jax.Array], list[jax.Array], list[jax.Array]]:
        """Returns the carry, the wanted ys and the values."""
        results = self._function(*consts, *carry, *x)
        first, second = self._carry_count, self._carry_count + self._ys_count
        return list(results[:first]), list(results[first:second]), list(results[second:])


def wanted_ys(step: Looped) -> list[int]:
    """Returns which ys of a loop are needed behind it."""
    ys = step.loop.outputs[step.loop.carry_count :]
    return [index for index, variable in enumerate(ys) if variable in step.outputs]


def groups_of(loop: Loop, wanted: Sequence[Wanted], captures: Captures) -> list[Group]:
    """Returns the wanted values of a loop, those together that one piece of program can compute."""
    found: dict[Any, Group] = {}
    for each in wanted:
        stacked = each.iteration == ALL
        key = (id(each.atom), None if stacked else captures.kind(each.place))
        group = found.setdefault(key, Group(atom=each.atom, places={}, stacked=()))
        if stacked:
            found[key] = Group(atom=group.atom, places={}, stacked=(*group.stacked, each.place))
        elif (position := loop.index_at(each.iteration or 0)) in group.places:  # other arguments: a group of its own
            found[each.place] = Group(atom=each.atom, places={position: each.place}, stacked=())
        else:
            group.places[position] = each.place
    return list(found.values())


def run_loop(
    step: Looped, inputs: Sequence[jax.Array], captures: Captures
) -> tuple[dict[jex.Var, jax.Array], dict[int, Arrays]]:
    """Runs a loop inside a program; returns its needed outputs, and its results by their place in the plan.

    Args:
        step: the loop, and what is wanted of it.
        inputs: a value for each input of the loop.
        captures: what to compute of captured values.
    """
    loop = step.loop
    groups = groups_of(loop, step.wanted, captures)
    run = _Run(loop=loop, ys=wanted_ys(step), captures=captures, consts=[], xs=[], results={}, ys_parts=[], stacks={})
    run.consts[:], carry, run.xs[:] = loop.split_inputs(inputs)
    length = loop.length if step.outputs else run_length(loop, step.wanted)
    for start, stop in _segments(length, _few(groups)):
        active = [group for group in groups if group.stacked or any(start <= each < stop for each in group.places)]
        carry = run.one(carry, start, active) if stop - start == 1 else run.many(carry, start, stop, active)
    return run.outputs(step, carry), run.finish(groups)


def run_length(loop: Loop, wanted: Sequence[Wanted]) -> int:
    """Returns how many iterations must run for the wanted values alone."""
    if any(each.iteration == ALL for each in wanted):
        return loop.length
    return 1 + max(loop.index_at(each.iteration or 0) for each in wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    loop: Loop
    ys: list[int]
    captures: Captures
    consts: list[jax.Array]
    xs: list[jax.Array]
    results: dict[int, Arrays]
    ys_parts: list[list[jax.Array]]
    stacks: dict[int, list[jax.Array]]

    def one(self, carry: list[jax.Array], position: int, groups: Sequence[Group]) -> list[jax.Array]:
        """Runs one iteration by itself."""
        index = self.loop.index_at(position)
        x = [jax.lax.index_in_dim(each, index, keepdims=False) for each in self.xs]
        carry, ys, values = self._function(groups)(self.consts, carry, x)
        self.ys_parts.append([each[None] for each in ys])
        for group, value in zip(groups, values, strict=True):
            if position in group.places:
                place = group.places[position]
                self.results[place] = self.captures.reduce(place, value)
            if group.stacked:
                self.stacks.setdefault(id(group), []).append(value[None])
        return carry

    def many(self, carry: list[jax.Array], start: int, stop: int, groups: Sequence[Group]) -> list[jax.Array]:
        """Runs iterations as a loop, and reduces in its body what is captured in some of them."""
        function, captures = self._function(groups), self.captures
        arguments = [_arguments(group, captures, self._order(start, stop)) for group in groups]

        def body(carry: Any, each: Any) -> Any:
            index, given = each
            x = [jax.lax.dynamic_index_in_dim(own, index, keepdims=False) for own in self.xs]
            carry, ys, values = function(self.consts, carry, x)
            captured = [
                (value,) if group.stacked else captures.reduce(next(iter(group.places.values())), value, own)
                for group, value, own in zip(groups, values, given, strict=True)
            ]
            return carry, (ys, captured)

        indices = np.arange(*self._range(start, stop), dtype=np.int32)  # a part of xs would be a copy of all weights
        carry, (ys, captured) = jax.lax.scan(body, carry, (indices, arguments), reverse=self.loop.reverse)
        self.ys_parts.append(ys)
        for group, arrays in zip(groups, captured, strict=True):
            if group.stacked:
                self.stacks.setdefault(id(group), []).append(arrays[0])
                continue
            for local, position in enumerate(self._order(start, stop)):
                if position in group.places:
                    self.results[group.places[position]] = tuple(each[local] for each in arrays)
        return list(carry)

    def outputs(self, step: Looped, carry: Sequence[jax.Array]) -> dict[jex.Var, jax.Array]:
        """Returns the needed outputs of the loop."""
        found = dict(zip(self.loop.outputs, carry, strict=False))
        for place, index in enumerate(self.ys):
            found[self.loop.outputs[self.loop.carry_count + index]] = self._joined(
                [part[place] for part in self.ys_parts]
            )
        return {variable: found[variable] for variable in step.outputs}

    def finish(self, groups: Sequence[Group]) -> dict[int, Arrays]:
        """Returns all results."""
        for group in groups:
            if group.stacked:
                whole = self._joined(self.stacks[id(group)])
                self.results.update({place: self.captures.reduce(place, whole) for place in group.stacked})
        return self.results

    def _function(self, groups: Sequence[Group]) -> IterationFunction:
        return IterationFunction(self.loop, self.ys, [group.atom for group in groups])

    def _range(self, start: int, stop: int) -> tuple[int, int]:
        """Returns the part of xs that iterations take."""
        return (self.loop.length - stop, self.loop.length - start) if self.loop.reverse else (start, stop)

    def _order(self, start: int, stop: int) -> range:
        """Returns the positions of iterations in the order of xs."""
        return range(stop - 1, start - 1, -1) if self.loop.reverse else range(start, stop)

    def _joined(self, parts: Sequence[jax.Array]) -> jax.Array:
        ordered = parts[::-1] if self.loop.reverse else parts
        return ordered[0] if len(ordered) == 1 else jnp.concatenate(ordered)


def _few(groups: Sequence[Group]) -> list[int]:
    """Returns the positions of iterations to take out of the loop."""
    few = sorted({each for group in groups if len(group.places) <= FEW for each in group.places})
    return few if len(few) <= FEW else []


def _segments(length: int, single: Sequence[int]) -> Iterator[tuple[int, int]]:
    start = 0
    for position in single:
        if position > start:
            yield start, position
        yield position, position + 1
        start = position + 1
    if start < length:
        yield start, length


def _arguments(group: Group, captures: Captures, order: range) -> Any:
    """Returns the arguments of a group's values for each iteration, zeros where it has none."""
    if group.stacked:
        return ()
    known = [captures.arguments[place] for place in group.places.values()]
    none = jax.tree.map(jnp.zeros_like, known[0])
    each = [captures.arguments[group.places[at]] if at in group.places else none for at in order]
    return jax.tree.map(lambda *arrays: jnp.stack(arrays), *each)
