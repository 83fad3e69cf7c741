"""Running a loop in whose body values are captured.

The loop runs no further than somebody needs. Values of few iterations are captured by taking these iterations out of
the loop; values of many, in the body: what is reduced is reduced there, so that it is never stacked first.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from fluoroscope_server.engine.site import ALL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import jax.extend.core as jex

    from fluoroscope_server.engine.captures import Arrays, Captures
    from fluoroscope_server.engine.jaxprs import Atom
    from fluoroscope_server.engine.loop import Loop
    from fluoroscope_server.engine.steps import Looped, Wanted

FEW = 4
"""How many iterations are taken out of a loop, each compiled by itself."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Group:
    """Captured values that are the same value of the body, reduced alike, in several iterations."""

    wanted: Wanted
    """The value, in the body. Its place is that of the first of them, and stands for all."""

    places: dict[int, int]
    """Their places in the plan, by position: how many iterations have run before."""

    stacked: tuple[int, ...]
    """The places in the plan of those that are the values of all iterations."""


class Iterating(Protocol):
    """One iteration of a loop."""

    def __call__(
        self, consts: Sequence[Any], carry: Sequence[Any], x: Sequence[Any], captures: Captures, /
    ) -> tuple[list[jax.Array], list[jax.Array], dict[int, Arrays]]:
        """Returns the carry, the wanted ys, and the results in its body by their place in the plan."""


Making: TypeAlias = "Callable[[Loop, Sequence[int], Sequence[Wanted]], Iterating]"
"""Makes one iteration of a loop, given which ys and which values of its body are wanted."""


def wanted_ys(step: Looped) -> list[int]:
    """Returns which ys of a loop are needed behind it."""
    ys = step.loop.outputs[step.loop.carry_count :]
    return [index for index, variable in enumerate(ys) if variable in step.outputs]


def groups_of(loop: Loop, wanted: Sequence[Wanted], captures: Captures) -> list[Group]:
    """Returns the wanted values of a loop, those together that one piece of program can compute."""
    found: dict[Any, Group] = {}
    for each in wanted:
        inside, stacked = each.inside(), each.iteration == ALL
        key = (id(each.atom), inside.iterations, None if stacked else captures.kind(each.place))
        group = found.setdefault(key, Group(wanted=inside, places={}, stacked=()))
        if stacked:
            found[key] = replace(group, stacked=(*group.stacked, each.place))
        elif (position := loop.index_at(each.iteration or 0)) in group.places:  # other arguments: a group of its own
            found[each.place] = Group(wanted=inside, places={position: each.place}, stacked=())
        else:
            group.places[position] = each.place
    return list(found.values())


def run_loop(
    step: Looped, inputs: Sequence[jax.Array], captures: Captures, make: Making
) -> tuple[dict[jex.Var, jax.Array], dict[int, Arrays]]:
    """Runs a loop inside a program; returns its needed outputs, and its results by their place in the plan.

    Args:
        step: the loop, and what is wanted of it.
        inputs: a value for each input of the loop.
        captures: what to compute of captured values.
        make: makes an iteration.
    """
    loop = step.loop
    groups = groups_of(loop, step.wanted, captures)
    consts, carry, xs = loop.split_inputs(inputs)
    run = _Run(loop=loop, ys=wanted_ys(step), captures=captures, make=make, consts=consts, xs=xs)
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
    make: Making
    consts: list[jax.Array]
    xs: list[jax.Array]
    results: dict[int, Arrays] = field(default_factory=dict)
    ys_parts: list[list[jax.Array]] = field(default_factory=list)
    stacks: dict[int, list[jax.Array]] = field(default_factory=dict)
    """By the place that stands for a group, the values of its iterations."""

    def one(self, carry: list[jax.Array], position: int, groups: Sequence[Group]) -> list[jax.Array]:
        """Runs one iteration by itself."""
        index = self.loop.index_at(position)
        x = [jax.lax.index_in_dim(each, index, keepdims=False) for each in self.xs]
        wanted = [replace(each.wanted, place=each.places.get(position, each.wanted.place)) for each in groups]
        carry, ys, found = self.make(self.loop, self.ys, wanted)(self.consts, carry, x, self._inside(groups, {}))
        self.ys_parts.append([each[None] for each in ys])
        for group, each in zip(groups, wanted, strict=True):
            if group.stacked:
                self.stacks.setdefault(each.place, []).append(found[each.place][0][None])
            else:
                self.results[each.place] = found[each.place]
        return carry

    def many(self, carry: list[jax.Array], start: int, stop: int, groups: Sequence[Group]) -> list[jax.Array]:
        """Runs iterations as a loop, and reduces in its body what is captured in some of them."""
        iterate = self.make(self.loop, self.ys, [group.wanted for group in groups])
        order = self._order(start, stop)
        arguments = {
            group.wanted.place: _arguments(group, self.captures, order) for group in groups if not group.stacked
        }

        def body(carry: Any, each: Any) -> Any:
            index, given = each
            x = [jax.lax.dynamic_index_in_dim(own, index, keepdims=False) for own in self.xs]
            carry, ys, found = iterate(self.consts, carry, x, self._inside(groups, given))
            return carry, (ys, found)

        indices = np.arange(*self._range(start, stop), dtype=np.int32)  # a part of xs would be a copy of all weights
        carry, (ys, found) = jax.lax.scan(body, carry, (indices, arguments), reverse=self.loop.reverse)
        self.ys_parts.append(ys)
        for group in groups:
            arrays = found[group.wanted.place]
            if group.stacked:
                self.stacks.setdefault(group.wanted.place, []).append(arrays[0])
                continue
            for local, position in enumerate(order):
                if position in group.places:
                    self.results[group.places[position]] = tuple(each[local] for each in arrays)
        return list(carry)

    def outputs(self, step: Looped, carry: Sequence[jax.Array]) -> dict[jex.Var, jax.Array]:
        """Returns the needed outputs of the loop."""
        count = self.loop.carry_count
        found = dict(zip(self.loop.outputs, carry, strict=False))
        for place, index in enumerate(self.ys):
            parts = [part[place] for part in self.ys_parts]
            found[self.loop.outputs[count + index]] = self._joined(parts, self.loop.body.outputs[count + index])
        return {variable: found[variable] for variable in step.outputs}

    def finish(self, groups: Sequence[Group]) -> dict[int, Arrays]:
        """Returns all results."""
        for group in groups:
            if group.stacked:
                wanted = group.wanted
                stacked = [
                    loop.length for loop, each in zip(wanted.loops, wanted.iterations, strict=True) if each == ALL
                ]
                whole = self._joined(self.stacks.get(wanted.place, []), wanted.atom, stacked)
                self.results.update({place: self.captures.reduce(place, whole) for place in group.stacked})
        return self.results

    def _inside(self, groups: Sequence[Group], arguments: Mapping[int, Any]) -> Captures:
        """Returns the captures in the body, where what is stacked leaves it as it is."""
        return self.captures.inside(arguments, raw=(group.wanted.place for group in groups if group.stacked))

    def _range(self, start: int, stop: int) -> tuple[int, int]:
        """Returns the part of xs that iterations take."""
        return (self.loop.length - stop, self.loop.length - start) if self.loop.reverse else (start, stop)

    def _order(self, start: int, stop: int) -> range:
        """Returns the positions of iterations in the order of xs."""
        return range(stop - 1, start - 1, -1) if self.loop.reverse else range(start, stop)

    def _joined(self, parts: Sequence[jax.Array], atom: Atom, stacked: Sequence[int] = ()) -> jax.Array:
        """Returns the values of all iterations of what is `atom` in the body, there with these axes before its own."""
        if not parts:  # the loop has no iterations
            return jnp.zeros((0, *stacked, *atom.aval.shape), atom.aval.dtype)
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
    known = [captures.arguments[place] for place in group.places.values()]
    none = jax.tree.map(jnp.zeros_like, known[0])
    each = [captures.arguments[group.places[at]] if at in group.places else none for at in order]
    return jax.tree.map(lambda *arrays: jnp.stack(arrays), *each)
