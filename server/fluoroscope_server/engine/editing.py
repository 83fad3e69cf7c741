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
from fluoroscope_server.engine.jaxprs import FlatJaxpr
from fluoroscope_server.engine.plan import Operation
from fluoroscope_server.engine.second_run import SecondRun

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import jax.extend.core as jex

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

    stacked: tuple[bool, ...]
    """Of each of them, whether its first axis are the iterations of a loop, each of which takes its own."""

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
    writing = _Writing(flat=flat)
    for write in writes:
        if write.value.loop is None:
            writing.writes.setdefault(write.value.atom, []).append(write)
        else:
            writing.looped.setdefault(write.value.loop, []).append(write)
    writing.write()
    return FlatNetwork(
        jaxpr=replace(
            flat.jaxpr,
            inputs=(*flat.jaxpr.inputs, *inputs),
            equations=tuple(writing.lines.equations),
            outputs=tuple(writing.lines.read(atom) for atom in flat.jaxpr.outputs),
        ),
        values=tuple(map(writing.value, flat.values)),
        loops=writing.loops,
    )


def _write_of(edit: PlannedEdit, value: NamedValue, runs: Mapping[int, SecondRun]) -> Write:
    looped = value.loop is not None
    shape, dtype = value.atom.aval.shape, value.atom.aval.dtype
    whole = shape if value.loop is None else (value.loop.length, *shape)
    found: list[tuple[tuple[int, ...], np.dtype, bool]] = []
    if edit.operation in {Operation.SET, Operation.ADD, Operation.SCALE}:
        varying = looped and 0 in edit.varying
        given = tuple(size if axis in edit.varying else 1 for axis, size in enumerate(whole))
        found.append((given[1:] if looped and not varying else given, dtype, varying))
    elif edit.batch_axis is not None:
        found.append(
            ((whole[edit.batch_axis],), np.dtype(bool if edit.operation is Operation.MEAN else np.int32), False)
        )
    found += [((whole[axis],), np.dtype(bool), looped and axis == 0) for axis in edit.masked]
    return Write(
        value=value,
        function=change_of(edit, looped=looped),
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

    def edit(self, variable: jex.Var, function: Callable[..., jax.Array], arguments: Sequence[jaxprs.Atom]) -> None:
        (self.known[variable],) = self.call(function, [self.read(variable), *arguments])


@dataclass(slots=True, kw_only=True)
class _Writing:
    """A network with writes in it, as far as it is written."""

    flat: FlatNetwork
    writes: dict[jex.Var, list[Write]] = field(default_factory=dict)
    looped: dict[Loop, list[Write]] = field(default_factory=dict)
    lines: _Lines = field(default_factory=_Lines)
    loops: dict[int, Loop] = field(default_factory=dict)
    _new: dict[Loop, Loop] = field(default_factory=dict)
    _bodies: dict[Loop, _Lines] = field(default_factory=dict)

    def write(self) -> None:
        network = self.flat.jaxpr
        for variable in (*network.constants, *network.inputs):
            self._edit(variable)
        for number, equation in enumerate(network.equations):
            loop = self.flat.loops.get(number)
            if loop is None:
                self.lines.add(equation)
            else:
                self._write_loop(equation, loop)
            for variable in equation.outvars:
                self._edit(variable)

    def value(self, value: NamedValue) -> NamedValue:
        """Returns a named value as it is behind the edits."""
        if value.loop is None:
            return replace(value, atom=self.lines.read(value.atom))
        body = self._bodies.get(value.loop)
        return replace(
            value,
            atom=value.atom if body is None else body.read(value.atom),
            loop=self._new.get(value.loop, value.loop),
        )

    def _edit(self, variable: jex.Var) -> None:
        for write in self.writes.get(variable, ()):
            self.lines.edit(variable, write.function, self._arguments(write))

    def _arguments(self, write: Write) -> list[jaxprs.Atom]:
        if write.source is None:
            return list(write.arguments)
        equations, atom = write.source.value(write.value)
        self.lines.equations += equations
        return [atom, *write.arguments]

    def _write_loop(self, equation: jex.JaxprEqn, loop: Loop) -> None:
        writes = self.looped.get(loop)
        if writes is None:
            self.lines.add(equation)
            new = replace(loop, inputs=tuple(map(self.lines.read, loop.inputs)))
        else:
            new = self._edited(loop, writes)
            outputs = self.lines.call(new.function(), new.inputs)
            if self.lines.equations[-1].outvars != outputs:
                raise AssertionError("a loop is one equation, and gives what it computes")
            new = replace(new, outputs=tuple(outputs))
            self.lines.known.update(zip(loop.outputs, outputs, strict=True))
        self._new[loop] = self.loops[len(self.lines.equations) - 1] = new

    def _edited(self, loop: Loop, writes: Sequence[Write]) -> Loop:
        """Returns a loop with writes in its body, and what they take as more constants and more xs."""
        body, lines = loop.body, self._bodies.setdefault(loop, _Lines())
        consts, xs = _Inputs(), _Inputs()
        taken: dict[jex.Var, list[tuple[Write, list[jex.Var]]]] = {}
        for write in writes:
            atoms = self._arguments(write)
            stacked = [*([True] if write.source is not None else []), *write.stacked]
            own = [(xs if each else consts).take(atom, stacked=each) for atom, each in zip(atoms, stacked, strict=True)]
            taken.setdefault(write.value.atom, []).append((write, own))

        def edit(variable: jex.Var) -> None:
            for write, own in taken.get(variable, ()):
                lines.edit(variable, write.function, own)

        for variable in (*body.constants, *body.inputs):
            edit(variable)
        for equation in body.equations:
            lines.add(equation)
            for variable in equation.outvars:
                edit(variable)
        inner = loop.split_inputs(body.inputs)
        outer = loop.split_inputs([self.lines.read(atom) for atom in loop.inputs])
        return replace(
            loop,
            body=FlatJaxpr(
                inputs=(*inner[0], *consts.inner, *inner[1], *inner[2], *xs.inner),
                constants=body.constants,
                equations=tuple(lines.equations),
                outputs=tuple(map(lines.read, body.outputs)),
            ),
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
