"""The flat form of a network: one jaxpr without calls, in which each place has a name.

JAX nests: a jit inside a jit, a remat block, a function with its own derivative. A value in such a
nest cannot leave it. So every call is written out in place, as XLA's inliner would do; what remains is one list
of equations, and each value in it can become an output.
"""

from __future__ import annotations

import collections
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fluoroscope_server.engine import jaxprs
from fluoroscope_server.engine.site import SiteKind
from fluoroscope_server.families import module_path

if TYPE_CHECKING:
    import jax.extend.core as jex


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedValue:
    """A value of a flat jaxpr, and the name of its place."""

    path: str
    """The name, unique in the jaxpr."""

    kind: SiteKind
    """What kind of place it is."""

    group: tuple[str, str]
    """Scope and name of the equation or mark: those that share both are told apart by a counter."""

    atom: jaxprs.Atom
    """The value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlatJaxpr:
    """A jaxpr without calls, and its named values in execution order."""

    closed: jex.ClosedJaxpr
    """The jaxpr. Its inputs and outputs are those of the nested one."""

    values: tuple[NamedValue, ...]
    """All values that have a name."""


def flatten(closed: jex.ClosedJaxpr, *, root: str = "") -> FlatJaxpr:
    """Writes out every call of a jaxpr and names its values; `root` is the outermost scope, left out of names."""
    writing = _Writing(root=root)
    names: dict[jex.Var, jaxprs.Atom] = {variable: variable for variable in closed.jaxpr.invars}
    outputs = writing.write(closed, names, scope="")
    flat = jaxprs.with_equations(closed, writing.equations, writing.constants, outputs)
    return FlatJaxpr(closed=flat, values=tuple(writing.values))


@dataclass(slots=True, kw_only=True)
class _Writing:
    """The flat jaxpr as far as it is written."""

    root: str
    equations: list[jex.JaxprEqn] = field(default_factory=list)
    constants: dict[jex.Var, Any] = field(default_factory=dict)
    values: list[NamedValue] = field(default_factory=list)
    counters: collections.Counter[tuple[str, str]] = field(default_factory=collections.Counter)
    taken: set[str] = field(default_factory=set)

    def write(self, closed: jex.ClosedJaxpr, names: dict[jex.Var, jaxprs.Atom], *, scope: str) -> list[jaxprs.Atom]:
        """Writes all equations of a jaxpr whose inputs are in `names`; returns its outputs in the flat jaxpr."""
        for variable, value in zip(closed.jaxpr.constvars, closed.consts, strict=True):
            names[variable] = jaxprs.fresh_variable(variable)
            self.constants[names[variable]] = value
        for equation in closed.jaxpr.eqns:
            inputs = [_read(names, atom) for atom in equation.invars]
            outputs = self._equation(equation, inputs, _join(scope, self._own_scope(equation, scope)))
            names.update(zip(equation.outvars, outputs, strict=True))
        return [_read(names, atom) for atom in closed.jaxpr.outvars]

    def _equation(self, equation: jex.JaxprEqn, inputs: list[jaxprs.Atom], scope: str) -> list[jaxprs.Atom]:
        mark = jaxprs.mark_of(equation)
        if mark is not None:
            self._name_mark(mark, scope, inputs[0])
            return inputs
        called = jaxprs.called_jaxpr(equation)
        if called is None:
            outputs = [jaxprs.fresh_variable(variable) for variable in equation.outvars]
            self.equations.append(equation.replace(invars=inputs, outvars=outputs))
            self._name_results(self._numbered(scope, _name(equation)), (scope, _name(equation)), outputs)
            return list(outputs)
        return self._call(equation, called, inputs, scope)

    def _call(
        self, equation: jex.JaxprEqn, called: jex.ClosedJaxpr, inputs: list[jaxprs.Atom], scope: str
    ) -> list[jaxprs.Atom]:
        names = dict(zip(called.jaxpr.invars, inputs, strict=True))
        name = jaxprs.called_name(equation)
        if name is None or _only_calls(called, name):
            return self.write(called, names, scope=scope)
        path = self._numbered(scope, name)
        outputs = self.write(called, names, scope=path)
        self._name_results(path, (scope, name), outputs)
        return outputs

    def _own_scope(self, equation: jex.JaxprEqn, scope: str) -> str:
        stack = jaxprs.name_stack(equation)
        if scope:
            return stack
        first, _, rest = stack.partition("/")
        return rest if self.root and first.split(".")[0] == self.root else stack

    def _name_mark(self, mark: str, scope: str, atom: jaxprs.Atom) -> None:
        module = module_path(mark)
        kind, path = (SiteKind.NAMED, _join(scope, mark or "unnamed")) if module is None else (SiteKind.MODULE, module)
        count = self.counters[path, ""]
        self.counters[path, ""] += 1
        self._add(f"{path}:{count}" if count else path, kind, (path, ""), atom)

    def _name_results(self, path: str, group: tuple[str, str], outputs: list[jaxprs.Atom]) -> None:
        for index, atom in enumerate(outputs):
            own = path if len(outputs) == 1 else f"{path}/{index}"
            self._add(own, SiteKind.EQUATION, group, atom)

    def _add(self, path: str, kind: SiteKind, group: tuple[str, str], atom: jaxprs.Atom) -> None:
        while path in self.taken:  # a user may name a value just as we name another
            path += "'"
        self.taken.add(path)
        self.values.append(NamedValue(path=path, kind=kind, group=group, atom=atom))

    def _numbered(self, scope: str, name: str) -> str:
        count = self.counters[scope, name]
        self.counters[scope, name] += 1
        return _join(scope, f"{name}:{count}")


def _read(names: dict[jex.Var, jaxprs.Atom], atom: jaxprs.Atom) -> jaxprs.Atom:
    return atom if jaxprs.is_literal(atom) else names[atom]


def _join(scope: str, name: str) -> str:
    return f"{scope}/{name}" if scope and name else scope or name


def _name(equation: jex.JaxprEqn) -> str:
    return jaxprs.called_name(equation) or equation.primitive.name


def _only_calls(closed: jex.ClosedJaxpr, name: str) -> bool:
    """Returns whether a function does nothing but call another of the same name: one place, not two."""
    equations = closed.jaxpr.eqns
    return (
        len(equations) == 1
        and jaxprs.called_name(equations[0]) == name
        and closed.jaxpr.outvars == equations[0].outvars
    )
