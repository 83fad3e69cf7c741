"""Mixing: what the rows of a batch have to do with each other, in each value of a network.

Two forms of the network are read side by side, for two batch sizes: the axes that differ are those of the batch. What
is not known to keep the rows apart does not.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fluoroscope_server.engine import jaxprs
from fluoroscope_server.engine.along import PASSING, acts_along, divides, repeats

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import jax.extend.core as jex

    from fluoroscope_server.engine.flat import FlatNetwork
    from fluoroscope_server.engine.jaxprs import Atom, FlatJaxpr
    from fluoroscope_server.engine.loop import Loop

    Form = tuple[FlatJaxpr, Mapping[int, Loop]]
    """Equations for one batch size, and the loops among them."""


class Mixing(enum.IntEnum):
    """What the rows of a batch have to do with each other in a value; of several inputs, the last of this list counts.

    A value may also be that for a single row, in a loop over the rows: then it has no axis of the batch.
    """

    UNIFORM = 0
    """It has no rows, and is the same for every batch: weights, and what is computed of them alone."""

    REPEATED = 1
    """All rows are the same, for every batch."""

    APART = 2
    """Each row is computed from the same row of the inputs, as if it were alone."""

    PLACED = 3
    """A row depends on its place in the batch, or on how many there are."""

    ACROSS = 4
    """A row may depend on others."""

    WHOLE = 5
    """It depends on the inputs, and has no rows of its own, but is one for the whole batch."""


_ACROSS = {Mixing.UNIFORM: Mixing.UNIFORM, Mixing.REPEATED: Mixing.PLACED, Mixing.WHOLE: Mixing.WHOLE}
"""What is made of a value along the batch, if not `ACROSS`."""

_WHOLE = {Mixing.UNIFORM: Mixing.UNIFORM, Mixing.REPEATED: Mixing.PLACED, Mixing.PLACED: Mixing.ACROSS}
"""What is made of a value that has no rows any more, or those of the batch twice, if not `WHOLE`."""


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
        flat: the network for each batch size, two at least. The two largest are compared: a batch of one may be
            computed by other equations.
        input_count: how many of its last inputs are those of a request.
    """
    (_, small), (_, large) = sorted(flat.items())[-2:]
    following = _Following()
    variables = len(large.jaxpr.inputs) - input_count
    states = [*[Mixing.UNIFORM] * variables, *[Mixing.APART] * input_count]
    try:
        ends = following.follow((small.jaxpr, small.loops), (large.jaxpr, large.loops), states)
    except _OtherEquationsError:
        return Mixed(outputs=None, values=frozenset(value.path for value in large.values))
    most = max(ends, default=Mixing.UNIFORM)
    return Mixed(
        outputs=True if most is Mixing.WHOLE else None if most > Mixing.APART else False,
        values=frozenset(value.path for value in large.values if following.of(value.atom) > Mixing.APART),
    )


class _OtherEquationsError(Exception):
    """The network computes in another way for another batch size."""


@dataclass(slots=True)
class _Following:
    """Follows the rows through the equations."""

    found: dict[jex.Var, Mixing] = field(default_factory=dict)
    """What is known of the variables for the larger batch."""

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
        if len(before.equations) != len(after.equations) or loops.keys() != larger_loops.keys():
            raise _OtherEquationsError
        self.found.update(zip(after.inputs, inputs, strict=True))
        for old, new in zip(before.constants, after.constants, strict=True):
            self.found[new] = Mixing.PLACED if _growing_axes(old, new) else Mixing.UNIFORM
        for index, (one, other) in enumerate(zip(before.equations, after.equations, strict=True)):
            if one.primitive is not other.primitive or list(map(_rank, one.outvars)) != list(map(_rank, other.outvars)):
                raise _OtherEquationsError
            if index in loops:
                made = self._loop(loops[index], larger_loops[index], alone=alone)
            else:
                made = self._equation(one, other, alone=alone)
            self.found.update(zip(other.outvars, made, strict=True))
        return self._pairs(before.outputs, after.outputs)

    def _pairs(self, before: Iterable[Atom], after: Iterable[Atom]) -> list[Mixing]:
        return [self._pair(old, new) for old, new in zip(before, after, strict=True)]

    def _pair(self, old: Atom, new: Atom) -> Mixing:
        """Returns what a value is: a number that is written down may be another for each batch size."""
        both = jaxprs.is_literal(old) and jaxprs.is_literal(new)
        return Mixing.PLACED if both and not np.array_equal(old.val, new.val, equal_nan=True) else self.of(new)

    def _equation(self, before: jex.JaxprEqn, after: jex.JaxprEqn, *, alone: bool) -> list[Mixing]:
        if after.effects:  # it reads or writes what no variable tells of
            return [Mixing.ACROSS] * len(after.outvars)
        if len(before.invars) != len(after.invars):  # an operand for each row
            return [self._of_each(after, *pair) for pair in zip(before.outvars, after.outvars, strict=True)]
        states = self._pairs(before.invars, after.invars)
        if after.primitive.name in PASSING and len(states) == len(after.outvars):
            return states
        most = max(states, default=Mixing.UNIFORM)
        if most > Mixing.UNIFORM and not alone and self._acts(before, after, states):
            most = _ACROSS.get(most, Mixing.ACROSS)
        return [self._made(most, after, *pair, alone=alone) for pair in zip(before.outvars, after.outvars, strict=True)]

    def _made(self, most: Mixing, equation: jex.JaxprEqn, old: jex.Var, new: jex.Var, *, alone: bool) -> Mixing:
        """Returns what an equation makes, given what has been made of its inputs."""
        axes = _growing_axes(old, new)
        if alone:
            return max(most, Mixing.ACROSS) if axes else most
        if most is not Mixing.UNIFORM:
            return most if len(axes) == 1 else _WHOLE.get(most, Mixing.WHOLE)
        if not axes:
            return most
        return Mixing.REPEATED if repeats(equation, axes) else Mixing.PLACED

    def _of_each(self, equation: jex.JaxprEqn, old: jex.Var, new: jex.Var) -> Mixing:
        """Returns what is made by an equation with an operand for each row."""
        most = max(map(self.of, equation.invars))
        return self._made(_ACROSS.get(most, Mixing.ACROSS), equation, old, new, alone=False)

    def _acts(self, before: jex.JaxprEqn, after: jex.JaxprEqn, states: Sequence[Mixing]) -> bool:
        operands = zip(before.invars, after.invars, states, strict=True)
        axes = [_growing_axes(old, new) if state > Mixing.UNIFORM else [] for old, new, state in operands]
        if after.primitive.name == "reshape":
            made = _growing_axes(before.outvars[0], after.outvars[0])
            return len(axes[0]) == len(made) == 1 and not divides(after, axes[0][0], made[0])
        return any(acts_along(after, position, axis) for position, found in enumerate(axes) for axis in found)

    def _loop(self, small: Loop, large: Loop, *, alone: bool) -> list[Mixing]:
        """Returns what a loop makes, whose iterations are the same for every batch, or one for each row."""
        inputs = self._pairs(small.inputs, large.inputs)
        if small.length == large.length or alone:
            return self._iterate(small, large, inputs, alone=alone)
        axes = map(_growing_axes, small.inputs, large.inputs)
        shared = large.const_count + large.carry_count
        pairs = enumerate(zip(inputs, axes, strict=True))
        own = [_of_one_row(state, along if place >= shared else None) for place, (state, along) in pairs]
        ends = self._iterate(small, large, own, alone=True, over_rows=True)
        made = zip(ends, small.outputs, large.outputs, strict=True)
        return [
            _of_all_rows(state, bool(_growing_axes(old, new)), last=place < large.carry_count)
            for place, (state, old, new) in enumerate(made)
        ]

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


def _of_one_row(state: Mixing, axes: Sequence[int] | None) -> Mixing:
    """Returns what an iteration for a row sees of a value: its own row along the first axis, or with None all of it."""
    if axes == [0]:
        return Mixing.UNIFORM if state is Mixing.REPEATED else state
    return state if state is Mixing.UNIFORM else max(state, Mixing.ACROSS)


def _carried(state: Mixing) -> Mixing:
    """Returns what one row hands on to the next: of its own place, or of all those before it."""
    return Mixing.PLACED if state in {Mixing.UNIFORM, Mixing.PLACED} else Mixing.ACROSS


def _of_all_rows(state: Mixing, grows: bool, *, last: bool) -> Mixing:
    """Returns what the iterations for all rows have made, each its own row, or one after the other the last carry."""
    if last:
        return Mixing.WHOLE if state > Mixing.PLACED and not grows else state
    return Mixing.REPEATED if state is Mixing.UNIFORM else state


def _growing_axes(before: Atom, after: Atom) -> list[int]:
    """Returns which axes of a value grow with the batch."""
    sizes = zip(jaxprs.shape_of(before), jaxprs.shape_of(after), strict=True)
    return [axis for axis, (small, large) in enumerate(sizes) if small != large]


def _rank(atom: Atom) -> int:
    return len(jaxprs.shape_of(atom))
