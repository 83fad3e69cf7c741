"""The names of the values in a network: from scopes, marks and counters to paths."""

from __future__ import annotations

import collections
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from fluoroscope_server.engine import jaxprs
from fluoroscope_server.engine.site import SiteKind
from fluoroscope_server.families import input_path, module_path

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import jax.extend.core as jex

    from fluoroscope_server.engine.loop import Loop


def index_mark(depth: int) -> str:
    """Returns what stands, in the path of a value inside a loop that is in `depth` others, for the iteration."""
    return f"[\0{depth}]"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NamedValue:
    """A value of a flat jaxpr, and the name of its place."""

    path: str
    """The name, unique in the jaxpr; with the `index_mark` of each loop that it is in."""

    kind: SiteKind
    """What kind of place it is."""

    group: tuple[str, str]
    """Scope and name of the equation or mark: those that share both are told apart by a counter."""

    atom: jaxprs.Atom
    """The value."""

    loops: tuple[Loop, ...] = ()
    """The loops that it is in, the outermost first: the body of the last computes it, once for each iteration."""

    reason: str = ""
    """Why it cannot be captured; empty if it can."""

    opaque: bool = False
    """Whether it is inside a function whose derivative its author wrote, so that there is none with respect to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the values that are being named are: nowhere in particular, in a loop's body, or where none can leave."""

    scope: str = ""
    """The scope around it."""

    name: str = ""
    """Its own path: `stack/scan:0`."""

    index: str = ""
    """What stands for the number of the iteration; empty outside of loops."""

    depth: int = 0
    """How many loops this is in."""

    indexes_scope: bool = False
    """Whether the scope around the loop stands for the loop: `stack[3]/tanh:0`, not `stack/scan:0[3]/tanh:0`."""

    reason: str = ""
    """Why the values here cannot be captured."""

    around: Place | None = None
    """The place that this one is in."""

    def inside(self, scope: str) -> str:
        """Returns the scope of an equation here, with the number of the iteration in it."""
        if self.around is not None:
            scope = self.around.inside(scope)
        if not self.index or self.index in scope:
            return scope
        if scope == self.scope:
            return (self.scope if self.indexes_scope else self.name) + self.index
        return self._indexed(scope)

    def module(self, path: str) -> str:
        """Returns the path of a module that is called here, with the number of the iteration in it."""
        if self.around is not None:
            path = self.around.module(path)
        return self._indexed(path) if self.index and self.index not in path else path

    def _indexed(self, path: str) -> str:
        """Returns a path with the index behind its first segment that is not of the scope around the loop."""
        if self.indexes_scope and path.startswith(self.scope + "/"):
            return self.scope + self.index + path[len(self.scope) :]
        outer, segments = self.scope.split("/"), path.split("/")
        shared = 0
        while shared < min(len(outer), len(segments) - 1) and outer[shared] == segments[shared]:
            shared += 1
        segments[shared] += self.index
        return "/".join(segments)


@dataclass(slots=True, kw_only=True)
class Names:
    """The names that have been given so far."""

    root: str
    """The outermost scope, left out of names."""

    values: list[NamedValue] = field(default_factory=list)
    """All that has a name, in execution order."""

    _counters: collections.Counter[tuple[str, str]] = field(default_factory=collections.Counter)
    _taken: set[str] = field(default_factory=set)
    _returned: set[jex.Var] = field(default_factory=set)

    def scope_of(self, equation: jex.JaxprEqn, scope: str) -> str:
        """Returns the scope of an equation, given that of the jaxpr it is in."""
        stack = jaxprs.name_stack(equation)
        first, _, rest = stack.partition("/")
        if not scope and self.root and first.split(".")[0] == self.root:
            stack = rest
        return join(scope, stack)

    def functions_in(self, scope: str) -> set[str]:
        """Returns the names of the functions that a scope is inside of."""
        return {segment.rpartition(":")[0] for segment in scope.split("/") if ":" in segment}

    def numbered(self, scope: str, name: str) -> str:
        """Returns a path for the next equation of that name in a scope."""
        count = self._counters[scope, name]
        self._counters[scope, name] += 1
        return join(scope, f"{name}:{count}")

    def name_mark(self, mark: str, scope: str, atom: jaxprs.Atom, place: Place) -> None:
        """Names a value that a module took or returned, or that the network's author named."""
        taken = input_path(mark)
        if taken is not None:
            if jaxprs.is_literal(atom) or atom not in self._returned:
                self._add_mark(SiteKind.INPUT, place.module(taken), atom, place)
            return
        module = module_path(mark)
        if not jaxprs.is_literal(atom):
            self._returned.add(atom)
        if module is None:
            kind, path = SiteKind.NAMED, join(place.inside(scope), mark or "unnamed")
        else:
            kind, path = SiteKind.MODULE, place.module(module)
        self._add_mark(kind, path, atom, place)

    def _add_mark(self, kind: SiteKind, path: str, atom: jaxprs.Atom, place: Place) -> None:
        count = self._counters[path, ""]
        self._counters[path, ""] += 1
        self._add(f"{path}:{count}" if count else path, kind, (path, ""), atom, place)

    def name_results(self, path: str, group: tuple[str, str], outputs: list[jaxprs.Atom], place: Place) -> None:
        """Names the results of an equation, or of a function."""
        for index, atom in enumerate(outputs):
            own = path if len(outputs) == 1 else f"{path}/{index}"
            self._add(own, SiteKind.EQUATION, group, atom, place)

    def _add(self, path: str, kind: SiteKind, group: tuple[str, str], atom: jaxprs.Atom, place: Place) -> None:
        while path in self._taken:  # a user may name a value just as we name another
            path += "'"
        self._taken.add(path)
        self.values.append(NamedValue(path=path, kind=kind, group=group, atom=atom, reason=place.reason))

    def enclose(self, first: int, inside: Callable[[NamedValue], bool], known: Mapping[jex.Var, jex.Var]) -> None:
        """Says of values from the `first` on that they are inside a function with its own derivative.

        Args:
            first: the number of the first.
            inside: says which of them are; the others have another name outside of the function.
            known: what these are outside of it.
        """
        for number in range(first, len(self.values)):
            value = self.values[number]
            if inside(value):
                self.values[number] = replace(value, opaque=True)
            elif not jaxprs.is_literal(value.atom):
                self.values[number] = replace(value, atom=known.get(value.atom, value.atom))

    def assign(self, loop: Loop, first: int) -> None:
        """Says that all values from the `first` on are in the body of a loop, whatever loops in it they are in."""
        self.values[first:] = [replace(value, loops=(loop, *value.loops)) for value in self.values[first:]]


def join(scope: str, name: str) -> str:
    """Returns a scope and a name as one path."""
    return f"{scope}/{name}" if scope and name else scope or name
