"""Steps: a network cut into parts that run one after the other, each with the values that it captures.

A step is a function of the values before it that gives the values after it that somebody still needs. Put together in
one program they are the network again; compiled one by one, what is between two of them can be sent meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

from fluoroscope_server.engine import jaxprs
from fluoroscope_server.engine.flops import equation_flops, loop_flops
from fluoroscope_server.engine.site import ALL

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    import jax.extend.core as jex

    from fluoroscope_server.engine.jaxprs import FlatJaxpr
    from fluoroscope_server.engine.loop import Loop


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A value that somebody wants to capture."""

    place: int
    """Its place in the plan."""

    atom: jaxprs.Atom
    """The value, in the flat jaxpr or in the body of the innermost loop."""

    loops: tuple[Loop, ...] = ()
    """The loops that it is in, the outermost first."""

    iterations: tuple[int, ...] = ()
    """Which iteration of each loop; `ALL` for all, stacked."""

    @property
    def loop(self) -> Loop | None:
        """Returns the outermost loop that it is in."""
        return self.loops[0] if self.loops else None

    @property
    def iteration(self) -> int | None:
        """Returns which iteration of the outermost loop."""
        return self.iterations[0] if self.iterations else None

    @property
    def around(self) -> list[tuple[Loop, int]]:
        """Returns each loop with how many of its iterations run before; with `ALL` if it is of all."""
        return [
            (loop, index if index == ALL else loop.index_at(index))
            for loop, index in zip(self.loops, self.iterations, strict=True)
        ]

    def inside(self) -> Wanted:
        """Returns it as a value in the body of the outermost loop."""
        return replace(self, loops=self.loops[1:], iterations=self.iterations[1:])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Straight:
    """Equations that run one after the other."""

    equations: tuple[jex.JaxprEqn, ...] = ()
    """The equations."""

    wanted: tuple[Wanted, ...] = ()
    """What is captured when they have run."""

    flops: float = 0.0
    """How many floating point operations they are."""

    inputs: tuple[jex.Var, ...] = ()
    """What must be known before, captured values included."""

    outputs: tuple[jex.Var, ...] = ()
    """What is known afterwards, and needed by later steps, or as an output of the network."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Looped:
    """A loop in whose body something is captured."""

    loop: Loop
    """The loop."""

    wanted: tuple[Wanted, ...]
    """What is captured in it."""

    flops: float = 0.0
    """How many floating point operations it does."""

    inputs: tuple[jex.Var, ...] = ()
    """What must be known before."""

    outputs: tuple[jex.Var, ...] = ()
    """What is known afterwards, and still needed. Without any, the loop ends with the last captured value."""


Step: TypeAlias = Straight | Looped


def split(
    jaxpr: FlatJaxpr,
    loops: Mapping[int, Loop],
    wanted: Sequence[Wanted],
    outputs: Sequence[jaxprs.Atom],
    *,
    cuts: Collection[int] = (),
) -> list[Step]:
    """Returns the steps that compute wanted values and outputs, and nothing else.

    Args:
        jaxpr: the network, or the body of a loop.
        loops: the loops in it, by the number of their equation.
        wanted: the values to capture, in the order in which their results must come.
        outputs: values to know at the end.
        cuts: the numbers of equations behind which a step ends.
    """
    captured = {each.loop for each in wanted}
    opened = {number: loop for number, loop in loops.items() if loop in captured}
    atoms = [each.atom for each in wanted if each.loop is None]
    cutting = _Cutting(jaxpr=jaxpr, loops=opened, cuts=cuts)
    for number in jaxpr.needed([*outputs, *atoms], also=opened):
        cutting.add(number)
    for each in wanted:
        cutting.capture(each)
    return _with_ends(cutting.parts, outputs)


def can_iterate(step: Looped) -> bool:
    """Returns whether the results of a loop can come iteration after iteration: none is of all of them, stacked."""
    return all(each.iteration != ALL for each in step.wanted)


def variables(atoms: Iterable[jaxprs.Atom]) -> Iterator[jex.Var]:
    """Yields those atoms that are variables."""
    return (atom for atom in atoms if not jaxprs.is_literal(atom))


@dataclass(slots=True, kw_only=True)
class _Part:
    """A step that is being made."""

    loop: Loop | None = None
    equations: list[jex.JaxprEqn] = field(default_factory=list)
    flops: float = 0.0
    wanted: list[Wanted] = field(default_factory=list)
    made: set[jex.Var] = field(default_factory=set)


@dataclass(slots=True, kw_only=True)
class _Cutting:
    """The steps, as far as they are made."""

    jaxpr: FlatJaxpr
    loops: Mapping[int, Loop]
    """The loops in whose bodies something is captured."""
    cuts: Collection[int]
    parts: list[_Part] = field(default_factory=list)
    ended: bool = True
    """Whether the last part takes no more equations."""
    last: _Part | None = None
    """The part that captured last: results come in order."""

    def add(self, number: int) -> None:
        equation, loop = self.jaxpr.equations[number], self.loops.get(number)
        alone = loop is not None
        if alone or self.ended:
            self.parts.append(_Part(loop=loop))
        part = self.parts[-1]
        part.made.update(equation.outvars)
        if not alone:
            part.equations.append(equation)
            part.flops += equation_flops(equation)
        self.ended = alone or number in self.cuts

    def capture(self, wanted: Wanted) -> None:
        """Adds a wanted value to the first part that can give it, no earlier than the last that was added."""
        self.last = self._in_loop(wanted.loop) if wanted.loop is not None else self._straight(wanted.atom)
        self.last.wanted.append(wanted)

    def _in_loop(self, loop: Loop) -> _Part:
        return next(part for part in self.parts if part.loop is loop)

    def _straight(self, atom: jaxprs.Atom) -> _Part:
        first = 0 if self.last is None else self.parts.index(self.last)
        if not jaxprs.is_literal(atom):
            first = max(first, *(index for index, part in enumerate(self.parts) if atom in part.made), -1)
        for part in self.parts[first : first + 2]:
            if part.loop is None:
                return part
        self.parts.insert(first + 1, _Part())
        return self.parts[min(first + 1, len(self.parts) - 1)]


def _with_ends(parts: Sequence[_Part], outputs: Sequence[jaxprs.Atom]) -> list[Step]:
    """Returns the steps with their inputs and outputs, each no more than is needed."""
    needed = set(variables(outputs))
    ended: list[Step] = []
    for part in reversed(parts):
        kept = tuple(variable for variable in _made(part) if variable in needed)
        inputs = tuple(dict.fromkeys(atom for atom in variables(_read(part)) if atom not in part.made))
        wanted = tuple(part.wanted)
        if part.loop is None:
            step: Step = Straight(
                equations=tuple(part.equations), wanted=wanted, flops=part.flops, inputs=inputs, outputs=kept
            )
        else:
            flops = loop_flops(part.loop, wanted, whole=bool(kept))
            step = Looped(loop=part.loop, wanted=wanted, flops=flops, inputs=inputs, outputs=kept)
        ended.append(step)
        needed = needed.difference(part.made).union(inputs)
    return ended[::-1]


def _made(part: _Part) -> list[jex.Var]:
    if part.loop is not None:
        return list(part.loop.outputs)
    return [variable for equation in part.equations for variable in equation.outvars]


def _read(part: _Part) -> list[jaxprs.Atom]:
    if part.loop is not None:
        return list(part.loop.inputs)
    read = [atom for equation in part.equations for atom in equation.invars]
    return [*read, *(each.atom for each in part.wanted)]
