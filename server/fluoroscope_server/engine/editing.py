"""Writing edits into a network: a flat jaxpr becomes another, in which every later use of a value reads the edited one.

What comes out is a network like any other, with more inputs: all that is written, and where. So it is cut into steps,
stages and loops as ever; an edit behind the deepest wanted value is left out as any other equation is.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import jax
import numpy as np

from fluoroscope_server.engine import jaxprs
from fluoroscope_server.engine.change import change_of
from fluoroscope_server.engine.flat import FlatNetwork
from fluoroscope_server.engine.plan import Operation
from fluoroscope_server.engine.second_run import SecondRun

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import jax.extend.core as jex

    from fluoroscope_server.engine.jaxprs import FlatJaxpr
    from fluoroscope_server.engine.loop import Loop
    from fluoroscope_server.engine.naming import NamedValue
    from fluoroscope_server.engine.plan import PlannedEdit


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Write:
    """A function of a value, whose result stands in for the value from then on."""

    value: NamedValue
    """The value."""

    function: Callable[..., jax.Array]
    """`(value, *arguments) -> value`."""

    arguments: tuple[jex.Var, ...]
    """What it takes besides: inputs of the new network."""

    stacked: tuple[tuple[bool, ...], ...]
    """Of each of them, for each loop that the value is in, whether it has an axis of its iterations, each of which
    takes its own. These axes are the first."""

    source: SecondRun | None = None
    """A second run, whose value comes before the arguments."""


def edited(flat: FlatNetwork, edits: Sequence[PlannedEdit], *, input_count: int) -> FlatNetwork:
    """Returns a network with edits in it; its values are those behind the edits.

    Behind its own inputs come the arguments of the edits, one after the other, and then the inputs of each second run.

    Args:
        flat: the network.
        edits: what to write; edits of the same value are applied in this order.
        input_count: how many of its last inputs are those of a request.
    """
    values = {value.path: value for value in flat.values}
    inputs = flat.jaxpr.inputs[len(flat.jaxpr.inputs) - input_count :]
    wanted: dict[int, list[NamedValue]] = {}
    for edit in edits:
        if edit.source is not None:
            wanted.setdefault(edit.source, []).append(values[edit.value])
    runs = {number: SecondRun(flat, inputs, wanted[number]) for number in sorted(wanted)}
    writes = [_write_of(edit, values[edit.value], runs) for edit in edits]
    arguments = [variable for write in writes for variable in write.arguments]
    return rewritten(flat, writes, [*arguments, *(variable for run in runs.values() for variable in run.inputs)])


def rewritten(flat: FlatNetwork, writes: Sequence[Write], inputs: Iterable[jex.Var]) -> FlatNetwork:
    """Returns a network with writes in it, and with more inputs."""
    asked = [
        _Asked(write=write, loops=write.value.loops, arguments=write.arguments, stacked=write.stacked)
        for write in writes
    ]
    writing = _Writing(jaxpr=flat.jaxpr, loops=flat.loops, asked=asked)
    writing.write()
    return FlatNetwork(
        jaxpr=replace(writing.written(), inputs=(*flat.jaxpr.inputs, *inputs)),
        values=tuple(map(writing.value, flat.values)),
        loops=writing.written_loops,
    )


def _write_of(edit: PlannedEdit, value: NamedValue, runs: Mapping[int, SecondRun]) -> Write:
    depth, dtype = len(value.loops), value.atom.aval.dtype
    whole = (*(loop.length for loop in value.loops), *value.atom.aval.shape)
    found: list[tuple[tuple[int, ...], np.dtype, tuple[bool, ...]]] = []
    if edit.operation in {Operation.SET, Operation.ADD, Operation.SCALE}:
        sizes = [size if axis in edit.varying else 1 for axis, size in enumerate(whole)]
        kept = [size for axis, size in enumerate(sizes) if axis >= depth or axis in edit.varying]
        found.append((tuple(kept), dtype, tuple(axis in edit.varying for axis in range(depth))))
    elif edit.batch_axis is not None:
        what = np.dtype(bool if edit.operation is Operation.MEAN else np.int32)
        found.append(((whole[edit.batch_axis],), what, (False,) * depth))
    found += [((whole[axis],), np.dtype(bool), tuple(each == axis for each in range(depth))) for axis in edit.masked]
    return Write(
        value=value,
        function=change_of(edit, depth=depth),
        arguments=jaxprs.variables_of([jax.ShapeDtypeStruct(size, kind) for size, kind, _ in found]),
        stacked=tuple(stacked for *_, stacked in found),
        source=None if edit.source is None else runs[edit.source],
    )


@dataclass(slots=True, kw_only=True)
class _Lines:
    """The equations of a jaxpr, as far as they are written."""

    equations: list[jex.JaxprEqn] = field(default_factory=list)
    known: dict[jex.Var, jaxprs.Atom] = field(default_factory=dict)
    """What stands in for values that were edited."""

    def read(self, atom: jaxprs.Atom) -> jaxprs.Atom:
        return jaxprs.read(atom, self.known)

    def add(self, equation: jex.JaxprEqn) -> None:
        self.equations.append(equation.replace(invars=[self.read(atom) for atom in equation.invars]))

    def call(self, function: Callable[..., object], atoms: Sequence[jaxprs.Atom]) -> list[jaxprs.Atom]:
        equations, outputs = jaxprs.written(function, atoms)
        self.equations += equations
        return outputs


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Asked:
    """A write, as it is known in one jaxpr."""

    write: Write
    loops: tuple[Loop, ...]
    """The loops that its value is in, seen from this jaxpr."""
    arguments: Sequence[jaxprs.Atom]
    stacked: Sequence[tuple[bool, ...]]

    def take(self, lines: _Lines) -> tuple[list[jaxprs.Atom], list[tuple[bool, ...]]]:
        """Returns the arguments, and how they are stacked; first what must be computed for them is written."""
        source = self.write.source
        if source is None or self.loops != self.write.value.loops:  # in a loop, it is an argument like any other
            return list(self.arguments), list(self.stacked)
        equations, atom = source.value(self.write.value)
        lines.equations += equations
        return [atom, *self.arguments], [(True,) * len(self.loops), *self.stacked]


@dataclass(slots=True, kw_only=True)
class _Writing:
    """A jaxpr with writes in it, as far as it is written: a network, or the body of a loop."""

    jaxpr: FlatJaxpr
    loops: Mapping[int, Loop]
    asked: Sequence[_Asked]
    lines: _Lines = field(default_factory=_Lines)
    here: dict[jex.Var, list[_Asked]] = field(default_factory=dict)
    """The writes of values that are in no loop, seen from here."""
    written_loops: dict[int, Loop] = field(default_factory=dict)
    new: dict[Loop, Loop] = field(default_factory=dict)
    """What stands in for loops, here and in the bodies of loops."""
    bodies: dict[Loop, _Lines] = field(default_factory=dict)

    def write(self) -> None:
        """Writes all of it."""
        for asked in self.asked:
            if not asked.loops:
                self.here.setdefault(asked.write.value.atom, []).append(asked)
        for variable in (*self.jaxpr.constants, *self.jaxpr.inputs):
            self._edit(variable)
        for number, equation in enumerate(self.jaxpr.equations):
            loop = self.loops.get(number)
            if loop is None:
                self.lines.add(equation)
            else:
                self._write_loop(equation, loop)
            for variable in equation.outvars:
                self._edit(variable)

    def written(self) -> FlatJaxpr:
        """Returns the jaxpr with writes in it; its inputs are the same."""
        outputs = tuple(map(self.lines.read, self.jaxpr.outputs))
        return replace(self.jaxpr, equations=tuple(self.lines.equations), outputs=outputs)

    def value(self, value: NamedValue) -> NamedValue:
        """Returns a named value as it is behind the edits."""
        lines = self.bodies.get(value.loops[-1]) if value.loops else self.lines
        loops = tuple(self.new.get(loop, loop) for loop in value.loops)
        return replace(value, atom=value.atom if lines is None else lines.read(value.atom), loops=loops)

    def _edit(self, variable: jex.Var) -> None:
        for asked in self.here.get(variable, ()):
            arguments, _ = asked.take(self.lines)
            given = [self.lines.read(variable), *arguments]
            (self.lines.known[variable],) = self.lines.call(asked.write.function, given)

    def _write_loop(self, equation: jex.JaxprEqn, loop: Loop) -> None:
        asked = [each for each in self.asked if each.loops[:1] == (loop,)]
        if not asked:
            self.lines.add(equation)
            new = replace(loop, inputs=tuple(map(self.lines.read, loop.inputs)))
        else:
            new = self._edited(loop, asked)
            outputs = self.lines.call(new.function(), new.inputs)
            if self.lines.equations[-1].outvars != outputs:
                raise AssertionError("a loop is one equation, and gives what it computes")
            new = replace(new, outputs=tuple(outputs))
            self.lines.known.update(zip(loop.outputs, outputs, strict=True))
        self.new[loop] = self.written_loops[len(self.lines.equations) - 1] = new

    def _edited(self, loop: Loop, asked: Sequence[_Asked]) -> Loop:
        """Returns a loop with writes in its body, and what they take as more constants and more xs."""
        consts, xs = _Inputs(), _Inputs()
        deeper = []
        for each in asked:
            arguments, stacked = each.take(self.lines)
            own = [
                (xs if flags[0] else consts).take(atom, stacked=flags[0])
                for atom, flags in zip(arguments, stacked, strict=True)
            ]
            flags_inside = [flags[1:] for flags in stacked]
            deeper.append(_Asked(write=each.write, loops=each.loops[1:], arguments=own, stacked=flags_inside))
        writing = _Writing(jaxpr=loop.body, loops=loop.loops, asked=deeper, new=self.new, bodies=self.bodies)
        self.bodies[loop] = writing.lines
        writing.write()
        inner = loop.split_inputs(loop.body.inputs)
        outer = loop.split_inputs([self.lines.read(atom) for atom in loop.inputs])
        return replace(
            loop,
            body=replace(writing.written(), inputs=(*inner[0], *consts.inner, *inner[1], *inner[2], *xs.inner)),
            loops=writing.written_loops,
            inputs=(*outer[0], *consts.outer, *outer[1], *outer[2], *xs.outer),
            const_count=loop.const_count + len(consts.inner),
        )


@dataclass(slots=True, kw_only=True)
class _Inputs:
    """More inputs of a loop, outside and in its body."""

    outer: list[jaxprs.Atom] = field(default_factory=list)
    inner: list[jex.Var] = field(default_factory=list)

    def take(self, atom: jaxprs.Atom, *, stacked: bool) -> jex.Var:
        """Adds an input, and returns what it is in the body."""
        structure = jaxprs.structure(atom)
        shape = structure.shape[1:] if stacked else structure.shape
        (own,) = jaxprs.variables_of([jax.ShapeDtypeStruct(shape, structure.dtype)])
        self.outer.append(atom)
        self.inner.append(own)
        return own
