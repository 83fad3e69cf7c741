"""Mixing: what the rows of a batch have to do with each other, in each value of a network.

Two forms of the network are read side by side, for two batch sizes: the axes that differ are those of the batch. What
is not known to keep the rows apart does not.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from fluoroscope_server.engine import jaxprs
from fluoroscope_server.engine.along import PASSING, acts_along, divides, is_alike, repeats
from fluoroscope_server.engine.dependents import dependents
from fluoroscope_server.engine.jaxprs import growing_axes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import jax.extend.core as jex

    from fluoroscope_server.engine.flat import FlatNetwork
    from fluoroscope_server.engine.jaxprs import Atom, FlatJaxpr
    from fluoroscope_server.engine.loop import Loop

    Form = tuple[FlatJaxpr, Mapping[int, Loop]]
    """Equations for one batch size, and the loops among them."""


class Mixing(enum.IntEnum):
    """What the rows of a batch have to do with each other in a value.

    A value may also be that for a single row, in a loop over the rows: then it has no axis of the batch.
    """

    UNIFORM = 0
    """It has no rows, and is the same for every batch: weights, and what is computed of them alone."""

    REPEATED = 1
    """It is computed without the inputs, and all rows are the same, for every batch."""

    PLACED = 2
    """It is computed without the inputs, but a row depends on its place in the batch, or on how many there are."""

    APART = 3
    """Each row is computed from the same row of the inputs, as if it were alone."""

    ACROSS = 4
    """A row may depend on others, or on its place."""

    WHOLE = 5
    """It depends on the inputs, and has no rows of its own, but is one for the whole batch."""


_KEPT = frozenset({Mixing.UNIFORM, Mixing.REPEATED, Mixing.APART})
"""Where each row has what it would have alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixed:
    """Where the rows of a batch are mixed."""

    outputs: bool | None
    """Whether an output needs a value that depends on the inputs and is one for the whole batch. None if that cannot be
    told: a row of an output may depend on others, or on its place, as of a sort of the rows, which may be undone."""

    values: frozenset[str]
    """The paths of the values in which that may be so, whether an output needs them or not."""


def find_mixed(flat: Mapping[int, FlatNetwork], input_count: int) -> Mixed:
    """Returns where the rows of a batch are mixed.

    Args:
        flat: the network for each batch size, two of more than one row at least: a batch of one may be computed by
            other equations.
        input_count: how many of its last inputs are those of a request.
    """
    several = [each for size, each in sorted(flat.items()) if size > 1]
    found = [_compared(small, large, input_count) for small, large in pairwise(several)]
    outputs = {each.outputs for each in found}
    return Mixed(
        outputs=True if True in outputs else None if None in outputs else False,
        values=frozenset().union(*(each.values for each in found)),
    )


def _compared(small: FlatNetwork, large: FlatNetwork, input_count: int) -> Mixed:
    following = _Following(dependents(large, large.jaxpr.inputs[-input_count:]))
    variables = len(large.jaxpr.inputs) - input_count
    states = [*[Mixing.UNIFORM] * variables, *[Mixing.APART] * input_count]
    try:
        ends = following.follow((small.jaxpr, small.loops), (large.jaxpr, large.loops), states)
    except _OtherEquationsError:
        return Mixed(outputs=None, values=frozenset(value.path for value in large.values))
    twins = {value.path: value.atom for value in small.values}
    return Mixed(
        outputs=True if Mixing.WHOLE in ends else False if _KEPT.issuperset(ends) else None,
        values=frozenset(
            value.path
            for value in large.values
            if following.of(value.atom) not in _KEPT or not following.is_twin(twins.get(value.path), value.atom)
        ),
    )


class _OtherEquationsError(Exception):
    """The network computes in another way for another batch size."""


@dataclass(slots=True)
class _Following:
    """Follows the rows through the equations."""

    dependent: set[jex.Var]
    """What depends on the inputs."""

    found: dict[jex.Var, Mixing] = field(default_factory=dict)
    """What is known of the variables for the larger batch."""

    twins: dict[jex.Var, jex.Var] = field(default_factory=dict)
    """The variable for the larger batch of each for the smaller."""

    def of(self, atom: Atom) -> Mixing:
        """Returns what is known of a value; of one that cannot leave what computes it, nothing."""
        return Mixing.UNIFORM if jaxprs.is_literal(atom) else self.found.get(atom, Mixing.ACROSS)

    def follow(self, small: Form, large: Form, inputs: Iterable[Mixing], *, alone: bool = False) -> list[Mixing]:
        """Returns what the outputs are, given what the inputs are.

        Args:
            small: the equations for the smaller batch.
            large: those for the larger.
            inputs: what the inputs are.
            alone: whether `APART` means a single row.

        Raises:
            _OtherEquationsError: they are not the same.
        """
        (before, loops), (after, larger_loops) = small, large
        _require(len(before.equations) == len(after.equations) and loops.keys() == larger_loops.keys())
        _require(len(before.constants) == len(after.constants))
        self._know(before.inputs, after.inputs, inputs)
        pairs = zip(before.constants.items(), after.constants.items(), strict=True)
        self._know(before.constants, after.constants, [_of_constant(*old, *new) for old, new in pairs])
        for index, (one, other) in enumerate(zip(before.equations, after.equations, strict=True)):
            _require(one.primitive is other.primitive and self._are_twins(one, other))
            if index in loops:
                made = self._loop(loops[index], larger_loops[index], alone=alone)
            else:
                made = self._equation(one, other, alone=alone)
            self._know(one.outvars, other.outvars, made)
        _require(all(map(self.is_twin, before.outputs, after.outputs)))
        return self._pairs(before.outputs, after.outputs)

    def _know(self, before: Iterable[jex.Var], after: Iterable[jex.Var], states: Iterable[Mixing]) -> None:
        for old, new, state in zip(before, after, states, strict=True):
            self.twins[old], self.found[new] = new, state

    def is_twin(self, old: Atom | None, new: Atom) -> bool:
        """Returns whether two values are the same one for the two batch sizes, or both are written down."""
        if old is None or jaxprs.is_literal(old) or jaxprs.is_literal(new):
            return old is not None and jaxprs.is_literal(old) and jaxprs.is_literal(new)
        return self.twins.get(old) is new

    def _are_twins(self, one: jex.JaxprEqn, other: jex.JaxprEqn) -> bool:
        """Returns whether two equations are the same but for sizes, and for how many operands there are."""
        if list(map(_rank, one.outvars)) != list(map(_rank, other.outvars)):
            return False
        if len(one.invars) != len(other.invars):
            known = all(any(self.is_twin(old, new) for new in other.invars) for old in one.invars)
            return known and all(any(self.is_twin(old, new) for old in one.invars) for new in other.invars)
        same = map(self.is_twin, one.invars, other.invars)
        return all(same) and list(map(_rank, one.invars)) == list(map(_rank, other.invars))

    def _pairs(self, before: Iterable[Atom], after: Iterable[Atom]) -> list[Mixing]:
        return [self._pair(old, new) for old, new in zip(before, after, strict=True)]

    def _pair(self, old: Atom, new: Atom) -> Mixing:
        """Returns what a value is: a number that is written down may be another for each batch size."""
        both = jaxprs.is_literal(old) and jaxprs.is_literal(new)
        return Mixing.PLACED if both and not np.array_equal(old.val, new.val, equal_nan=True) else self.of(new)

    def _equation(self, before: jex.JaxprEqn, after: jex.JaxprEqn, *, alone: bool) -> list[Mixing]:
        if after.effects:  # it reads or writes what no variable tells of
            return [Mixing.ACROSS] * len(after.outvars)
        if len(before.invars) == len(after.invars):
            states = self._pairs(before.invars, after.invars)
            acts = self._acts(before, after, states)
        else:  # an operand for each row
            states, acts = [self.of(atom) for atom in after.invars], True
        if not is_alike(before, after):
            states = [*states, Mixing.PLACED]
        if after.primitive.name in PASSING and len(states) == len(after.outvars):
            return states
        pairs = zip(before.outvars, after.outvars, strict=True)
        axes = [(new in self.dependent, growing_axes(old, new)) for old, new in pairs]
        if alone:
            return [_made_alone(states, depends, bool(found)) for depends, found in axes]
        return [
            _made(states, found, acts) if depends else _made_before(states, after, found, acts)
            for depends, found in axes
        ]

    def _acts(self, before: jex.JaxprEqn, after: jex.JaxprEqn, states: Sequence[Mixing]) -> bool:
        operands = zip(before.invars, after.invars, states, strict=True)
        axes = [growing_axes(old, new) if state > Mixing.UNIFORM else [] for old, new, state in operands]
        if after.primitive.name == "reshape":
            made = growing_axes(before.outvars[0], after.outvars[0])
            return len(axes[0]) == len(made) == 1 and not divides(after, axes[0][0], made[0])
        return any(acts_along(after, position, axis) for position, found in enumerate(axes) for axis in found)

    def _loop(self, small: Loop, large: Loop, *, alone: bool) -> list[Mixing]:
        """Returns what a loop makes, whose iterations are the same for every batch, or one for each row."""
        inputs = self._pairs(small.inputs, large.inputs)
        counts = [(each.const_count, each.carry_count, each.reverse) for each in (small, large)]
        _require(counts[0] == counts[1])
        if small.length == large.length:
            return self._iterate(small, large, inputs, alone=alone)
        if alone:
            return [
                max(state, Mixing.ACROSS if new in self.dependent else Mixing.PLACED)
                for state, new in zip(self._iterate(small, large, inputs, alone=True), large.outputs, strict=True)
            ]
        axes = map(growing_axes, small.inputs, large.inputs)
        shared = large.const_count + large.carry_count
        pairs = enumerate(zip(inputs, axes, strict=True))
        own = [_of_one_row(state, along if place >= shared else None) for place, (state, along) in pairs]
        ends = self._iterate(small, large, own, alone=True, over_rows=True)
        lasts = zip(ends, small.outputs, large.outputs[: large.carry_count], strict=False)
        return [
            *(self._last_carry(state, new, growing_axes(old, new)) for state, old, new in lasts),
            *(Mixing.REPEATED if state is Mixing.UNIFORM else state for state in ends[large.carry_count :]),
        ]

    def _last_carry(self, state: Mixing, new: jex.Var, axes: Sequence[int]) -> Mixing:
        """Returns what the last row has handed on."""
        return Mixing.WHOLE if state is Mixing.ACROSS and new in self.dependent and not axes else state

    def _iterate(
        self, small: Loop, large: Loop, inputs: Sequence[Mixing], *, alone: bool, over_rows: bool = False
    ) -> list[Mixing]:
        """Returns what the body of a loop makes in the end, when what it carries along does not change any more."""
        consts, carry, xs = large.split_inputs(inputs)
        _, begins, _ = large.split_inputs(large.body.inputs)
        while True:
            forms = (small.body, small.loops), (large.body, large.loops)
            ends = self.follow(*forms, [*consts, *carry, *xs], alone=alone)
            found = map(_carried, ends) if over_rows else ends
            carried = zip(begins, large.body.outputs, carry, found, strict=False)
            after = [state if begin is end else max(state, made) for begin, end, state, made in carried]
            if after == carry:
                return [*carry, *ends[large.carry_count :]]
            carry = after


def _require(alike: bool) -> None:
    """Raises _OtherEquationsError unless what was compared is alike."""
    if not alike:
        raise _OtherEquationsError


def _of_constant(_: jex.Var, old: Any, var: jex.Var, new: Any) -> Mixing:
    """Returns what an array is that the network holds for each batch size."""
    if old is new:
        return Mixing.UNIFORM
    numbers = jaxprs.shape_and_dtype(var) is not None  # NumPy cannot compare random keys
    return Mixing.UNIFORM if numbers and np.array_equal(old, new) else Mixing.PLACED


def _made(states: Sequence[Mixing], axes: Sequence[int], acts: bool) -> Mixing:
    """Returns what is made of some inputs of the network.

    Args:
        states: what the operands are.
        axes: which axes of it grow with the batch.
        acts: whether an operand's places along the batch may have to do with each other.
    """
    if len(axes) != 1:
        return Mixing.WHOLE
    return max(*states, Mixing.ACROSS) if acts or Mixing.PLACED in states else max(states)


def _made_before(states: Sequence[Mixing], equation: jex.JaxprEqn, axes: Sequence[int], acts: bool) -> Mixing:
    """Returns what is made without the inputs of the network; as `_made`."""
    most = max(states, default=Mixing.UNIFORM)
    if most is Mixing.UNIFORM and not axes:
        return most
    repeated = repeats(equation, axes) if most is Mixing.UNIFORM else most is Mixing.REPEATED and not acts
    return Mixing.REPEATED if repeated and len(axes) == 1 else max(most, Mixing.PLACED)


def _made_alone(states: Sequence[Mixing], depends: bool, grows: bool) -> Mixing:
    """Returns what is made in an iteration for a single row."""
    most = max(states, default=Mixing.UNIFORM)
    if depends:
        return max(most, Mixing.ACROSS) if grows or Mixing.PLACED in states else most
    return max(most, Mixing.PLACED) if grows else most


def _of_one_row(state: Mixing, axes: Sequence[int] | None) -> Mixing:
    """Returns what an iteration for a row sees of a value: its own row along the first axis, or with None all of it."""
    if axes == [0]:
        return Mixing.UNIFORM if state is Mixing.REPEATED else state
    if state is Mixing.UNIFORM:
        return state
    return Mixing.PLACED if state <= Mixing.PLACED else max(state, Mixing.ACROSS)


def _carried(state: Mixing) -> Mixing:
    """Returns what one row hands on to the next: of its own place, or of all those before it."""
    return Mixing.PLACED if state <= Mixing.PLACED else Mixing.ACROSS


def _rank(atom: Atom) -> int:
    return len(jaxprs.shape_of(atom))
