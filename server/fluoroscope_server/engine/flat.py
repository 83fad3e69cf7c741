"""The flat form of a network: one jaxpr without calls, in which each place has a name.

JAX nests: a jit inside a jit, a remat block, a function with its own derivative. A value in such a
nest cannot leave it. So every call is written out in place, as XLA's inliner would do; what remains is one list
of equations, and each value in it can become an output. The body of a scan stays a jaxpr of its own, as flat as
the one around it, with the loops in it: its values have a name for each iteration.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fluoroscope_server.engine import jaxprs
from fluoroscope_server.engine.jaxprs import FlatJaxpr
from fluoroscope_server.engine.library import library_calls
from fluoroscope_server.engine.loop import Loop
from fluoroscope_server.engine.naming import Names, Place, index_mark, join
from fluoroscope_server.families import module_path

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import jax.extend.core as jex

    from fluoroscope_server.engine.naming import NamedValue

_REASONS = {
    "while": "it is inside a while loop, and how often that runs depends on the data: capture what the loop returns",
    "cond": "it is in a branch of a condition, which runs or does not, depending on data: capture what that returns",
    "shard_map": "it is inside a shard_map, where each device has a part of its own: capture what that returns",
}
"""Why values cannot leave some equations, by the primitive."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FlatNetwork:
    """A network without calls, and its named values in execution order."""

    jaxpr: FlatJaxpr
    """The network. Its inputs and outputs are those of the nested jaxpr."""

    values: tuple[NamedValue, ...]
    """All values that have a name; those in the body of a loop once for all its iterations."""

    loops: Mapping[int, Loop]
    """The scans, by the number of their equation."""


def flatten(closed: jaxprs.Closed, *, root: str = "", whole: bool = False, opened: Collection[str] = ()) -> FlatNetwork:
    """Writes out every call of a jaxpr and names its values.

    Args:
        closed: the jaxpr.
        root: the outermost scope, left out of names.
        whole: whether functions stay calls whose derivatives their authors wrote, so that what comes out can be
            differentiated. The names are the same, but values inside of such functions are not computed.
        opened: the paths of values that are computed nonetheless: the functions around them are written out.
    """
    writing = _Writing(names=Names(root=root), place=Place(), whole=whole, opened=opened)
    flat = writing.write_whole(closed, scope="")
    return FlatNetwork(jaxpr=flat, values=tuple(writing.names.values), loops=writing.loops)


@dataclass(slots=True, kw_only=True)
class _Writing:
    """A flat jaxpr as far as it is written."""

    names: Names
    place: Place
    whole: bool
    opened: Collection[str]
    equations: list[jex.JaxprEqn] = field(default_factory=list)
    constants: dict[jex.Var, Any] = field(default_factory=dict)
    loops: dict[int, Loop] = field(default_factory=dict)

    def write_whole(self, closed: jaxprs.Closed, *, scope: str) -> FlatJaxpr:
        """Returns a jaxpr in its flat form. Its inputs are new variables: JAX may have one body for several loops."""
        known = {variable: jaxprs.fresh_variable(variable) for variable in closed.jaxpr.invars}
        inputs = tuple(known.values())
        outputs = self.write(closed, known, scope=scope)
        return FlatJaxpr(
            inputs=inputs,
            constants=self.constants,
            equations=tuple(self.equations),
            outputs=tuple(outputs),
        )

    def write(self, closed: jaxprs.Closed, known: dict[jex.Var, jaxprs.Atom], *, scope: str) -> list[jaxprs.Atom]:
        """Writes all equations of a jaxpr whose inputs are `known`; returns its outputs in the flat jaxpr."""
        for variable, value in zip(closed.jaxpr.constvars, closed.consts, strict=True):
            known[variable] = jaxprs.fresh_variable(variable)
            self.constants[known[variable]] = value
        for name, equations in library_calls(closed.jaxpr.eqns):
            if name is None or name in self.names.functions_in(scope):
                for equation in equations:
                    self._write_one(equation, known, self.names.scope_of(equation, scope))
            else:
                self._write_call(name, equations, known, self.names.scope_of(equations[0], scope))
        return [_read(known, atom) for atom in closed.jaxpr.outvars]

    def _write_one(self, equation: jex.JaxprEqn, known: dict[jex.Var, jaxprs.Atom], scope: str) -> list[jaxprs.Atom]:
        inputs = [_read(known, atom) for atom in equation.invars]
        outputs = self._equation(equation, inputs, scope)
        known.update(zip(equation.outvars, outputs, strict=True))
        return outputs

    def _write_call(
        self, name: str, equations: Sequence[jex.JaxprEqn], known: dict[jex.Var, jaxprs.Atom], scope: str
    ) -> None:
        """Writes the equations of a function that JAX has written out already, and gives it its name back."""
        inner = self.place.inside(scope)
        path = self.names.numbered(inner, name)
        outputs: list[jaxprs.Atom] = []
        for equation in equations:
            outputs = self._write_one(equation, known, path)
        self.names.name_results(path, (inner, name), outputs, self.place)

    def _equation(self, equation: jex.JaxprEqn, inputs: list[jaxprs.Atom], scope: str) -> list[jaxprs.Atom]:
        mark = jaxprs.mark_of(equation)
        if mark is not None:
            self.names.name_mark(mark, scope, inputs[0], self.place)
            return inputs
        called = jaxprs.called_jaxpr(equation)
        if called is not None:
            return self._call(equation, called, inputs, scope)
        outputs = [jaxprs.fresh_variable(variable) for variable in equation.outvars]
        self.equations.append(equation.replace(invars=inputs, outvars=outputs))
        name = jaxprs.called_name(equation) or equation.primitive.name
        inner = self.place.inside(scope)
        path = self.names.numbered(inner, name)
        self._write_body(self.equations[-1], scope, path)
        self.names.name_results(path, (inner, name), list(outputs), self.place)
        return list(outputs)

    def _call(
        self, equation: jex.JaxprEqn, called: jaxprs.Closed, inputs: list[jaxprs.Atom], scope: str
    ) -> list[jaxprs.Atom]:
        if not jaxprs.has_own_derivative(equation):
            return self._write_out(equation, called, inputs, scope)
        first, start = len(self.names.values), len(self.equations)
        outputs = self._write_out(equation, called, inputs, scope)
        return self._enclose(equation, inputs, outputs, first, start)

    def _enclose(
        self, equation: jex.JaxprEqn, inputs: list[jaxprs.Atom], outputs: list[jaxprs.Atom], first: int, start: int
    ) -> list[jaxprs.Atom]:
        """Takes note of what is inside a function with a derivative of its own; makes it a call again if it must be.

        Args:
            equation: the call.
            inputs: what goes in.
            outputs: what came out, written out.
            first: the number of the first value that was named in it.
            start: the number of its first equation.
        """
        made = {variable for each in self.equations[start:] for variable in each.outvars}
        loops = {loop for number, loop in self.loops.items() if number >= start}

        def inside(value: NamedValue) -> bool:
            if any(loop in loops for loop in value.loops):
                return True
            return not jaxprs.is_literal(value.atom) and value.atom in made and value.atom not in outputs

        called = self.whole and not any(
            value.path in self.opened and inside(value) for value in self.names.values[first:]
        )
        results = [jaxprs.fresh_variable(variable) for variable in equation.outvars] if called else outputs
        known = {old: new for old, new in zip(outputs, results, strict=True) if not jaxprs.is_literal(old)}
        self.names.enclose(first, inside, known)
        if called:
            self.equations[start:] = [equation.replace(invars=inputs, outvars=results)]
            self.loops = {number: loop for number, loop in self.loops.items() if number < start}
        return results

    def _write_out(
        self, equation: jex.JaxprEqn, called: jaxprs.Closed, inputs: list[jaxprs.Atom], scope: str
    ) -> list[jaxprs.Atom]:
        known = dict(zip(called.jaxpr.invars, inputs, strict=True))
        name = jaxprs.called_name(equation)
        if name is None or _only_calls(called, name):
            return self.write(called, known, scope=scope)
        inner = self.place.inside(scope)
        path = self.names.numbered(inner, name)
        outputs = self.write(called, known, scope=path)
        self.names.name_results(path, (inner, name), outputs, self.place)
        return outputs

    def _write_body(self, equation: jex.JaxprEqn, scope: str, path: str) -> None:
        """Names what is inside an equation that is no call: the body of a loop, or what can never leave it."""
        scan = jaxprs.scan_of(equation)
        if scan is not None:
            self._write_loop(equation, scan, scope, path)
        for name, hidden in jaxprs.hidden_jaxprs(equation):
            reason = self.place.reason or _REASONS[equation.primitive.name]
            inside = Place(reason=reason, around=self.place)
            hiding = _Writing(names=self.names, place=inside, whole=self.whole, opened=self.opened)
            hiding.write_whole(hidden, scope=join(path, name))

    def _write_loop(self, equation: jex.JaxprEqn, scan: jaxprs.Scan, scope: str, path: str) -> None:
        reason, depth = self.place.reason, self.place.depth
        own = self.place.inside(scope)
        place = Place(
            scope=own,
            name=path,
            index="[*]" if reason else index_mark(depth),
            depth=depth + 1,
            indexes_scope=_stands_for(own, path) and not _calls_modules(scan.body),
            reason=reason,
            around=self.place,
        )
        writing = _Writing(names=self.names, place=place, whole=self.whole, opened=self.opened)
        first = len(self.names.values)
        body = writing.write_whole(scan.body, scope=own)
        if reason:
            return
        loop = Loop(
            body=body,
            loops=writing.loops,
            inputs=tuple(equation.invars),
            outputs=tuple(equation.outvars),
            const_count=scan.const_count,
            carry_count=scan.carry_count,
            length=scan.length,
            reverse=scan.reverse,
        )
        self.loops[len(self.equations) - 1] = loop
        self.names.assign(loop, first)


def _read(known: Mapping[jex.Var, jaxprs.Atom], atom: jaxprs.Atom) -> jaxprs.Atom:
    return atom if jaxprs.is_literal(atom) else known[atom]


def _stands_for(scope: str, path: str) -> bool:
    """Returns whether the scope around a loop is a name for it: it is the first there, and no iteration of another."""
    return bool(scope) and not scope.endswith("]") and path.endswith("/scan:0")


def _only_calls(closed: jaxprs.Closed, name: str) -> bool:
    """Returns whether a function does nothing but call another of the same name: one place, not two."""
    equations = closed.jaxpr.eqns
    return (
        len(equations) == 1
        and jaxprs.called_name(equations[0]) == name
        and closed.jaxpr.outvars == equations[0].outvars
    )


def _calls_modules(closed: jaxprs.Closed) -> bool:
    """Returns whether a module is called in a jaxpr, or in one that it calls."""
    for equation in closed.jaxpr.eqns:
        mark = jaxprs.mark_of(equation)
        if mark is not None and module_path(mark) is not None:
            return True
        called = jaxprs.called_jaxpr(equation)
        if called is not None and _calls_modules(called):
            return True
    return False
