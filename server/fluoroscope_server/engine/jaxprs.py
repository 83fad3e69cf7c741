"""Jaxprs: reading them and making new ones of their parts.

How JAX keeps a jaxpr inside of an equation, and how that differs between the versions of JAX that we allow, is known
here alone. Other files read equations, variables and literals, and rewrite them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import jax.extend.core as jex
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

Atom: TypeAlias = Any
"""A variable of a jaxpr, or a literal."""

Closed: TypeAlias = Any
"""A jaxpr with its constants. A class of its own up to JAX 0.11, and from then on any jaxpr."""

_Closed: Any = getattr(jex, "ClosedJaxpr", jex.Jaxpr)

_CALLED = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "checkpoint": "jaxpr",
    "remat": "jaxpr",
    "remat2": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
}
"""The primitives that only call a jaxpr, with the parameter that holds it. Without differentiation,
each is equal to its jaxpr written out in place; with it, all but those that have a derivative of their own."""

_ANONYMOUS = frozenset({"checkpoint", "remat", "remat2", "closed_call", "core_call"})
"""Of these, those that stand for no function that a person would look for."""

_WRAPPERS = frozenset({"core_fn"})
"""The names of functions that Flax wraps around those of its users, in `nn.jit`."""


_LIBRARY = "jax/_src/nn/functions.py"

_FUNCTIONS = frozenset(name for name in dir(jax.nn) if name.islower() and name != "dot_product_attention")
"""The functions that are one place for a person; of attention, each of its steps is."""


def called_jaxpr(equation: jex.JaxprEqn) -> Closed | None:
    """Returns the jaxpr that an equation calls, if it may be written out in the equation's place."""
    parameter = _CALLED.get(equation.primitive.name)
    if parameter is None or parameter not in equation.params or _is_sharded(equation):
        return None
    jaxpr = equation.params[parameter]
    return jaxpr if isinstance(jaxpr, _Closed) else _Closed(jaxpr, ())


def has_own_derivative(equation: jex.JaxprEqn) -> bool:
    """Returns whether an equation calls a function whose derivative its author wrote."""
    return equation.primitive.name.startswith("custom_")


def called_name(equation: jex.JaxprEqn) -> str | None:
    """Returns the name of the function that an equation calls; None if no function was named."""
    if equation.primitive.name in _ANONYMOUS:
        return None
    name = equation.params.get("name")
    if name is None and (called := called_jaxpr(equation)) is not None:
        name = getattr(called.jaxpr.debug_info, "func_name", None)
    if not isinstance(name, str) or not name.isprintable() or name in _WRAPPERS:
        return None
    return name.replace("/", "_")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scan:
    """What a scan does, whatever JAX' own form of it is."""

    body: Closed
    """`(constants, carry, x) -> (carry, y)`, each several arrays."""

    const_count: int
    """How many of the inputs are the same in each iteration."""

    carry_count: int
    """How many of the inputs, behind those, go from one iteration to the next."""

    length: int
    """How many iterations there are."""

    reverse: bool
    """Whether the last x comes first."""


def scan_of(equation: jex.JaxprEqn) -> Scan | None:
    """Returns what an equation does if it is a scan without effects; None for any other."""
    if equation.primitive.name != "scan" or equation.effects:
        return None
    parameters = equation.params
    if "ft_in" in parameters:  # from JAX 0.12 on
        consts, carry, _ = (len(list(each)) for each in parameters["ft_in"].unpack())
    else:
        consts, carry = parameters["num_consts"], parameters["num_carry"]
    return Scan(
        body=parameters["jaxpr"],
        const_count=consts,
        carry_count=carry,
        length=parameters["length"],
        reverse=parameters["reverse"],
    )


def hidden_jaxprs(equation: jex.JaxprEqn) -> Sequence[tuple[str, Closed]]:
    """Returns the jaxprs, by name, whose values can never leave an equation; none of most."""
    name, parameters = equation.primitive.name, equation.params
    if name == "while":
        return [("body", parameters["body_jaxpr"])]
    if name == "cond":
        return [(f"branch_{index}", branch) for index, branch in enumerate(parameters["branches"])]
    if name == "shard_map":
        return [("shard", _Closed(parameters["jaxpr"], ()))]
    return []


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryCall:
    """A call of a function of `jax.nn` whose equations JAX wrote in its place, without its name."""

    name: str
    """The name of the function."""

    around: tuple[tuple[str, int], ...]
    """The files and lines that it was called from."""

    lines: tuple[int, ...]
    """The lines of the library that made the equation."""


def library_call(equation: jex.JaxprEqn) -> LibraryCall | None:
    """Returns the innermost call of a function of `jax.nn` that made an equation; None if none did.

    Softmax and gelu are inlined when they are traced: of their names, only the traceback of each equation knows.
    """
    traceback: Any = equation.source_info.traceback  # None where JAX is told to keep none
    frames: list[Any] = [] if traceback is None else traceback.frames
    ends = (number for number, frame in enumerate(frames) if frame.function_name.startswith("trace_to_jaxpr"))
    frames = frames[: next(ends, len(frames))]  # what is behind made another jaxpr
    lines: list[int] = []
    for number, frame in enumerate(frames):
        if frame.file_name.endswith(_LIBRARY):
            lines.insert(0, frame.line_num)
            if frame.function_name in _FUNCTIONS:
                around = tuple((each.file_name, each.line_num) for each in frames[number + 1 :])
                return LibraryCall(name=frame.function_name, around=around, lines=tuple(lines))
    return None


def inner_jaxprs(equation: jex.JaxprEqn) -> list[Closed]:
    """Returns all jaxprs that an equation holds, whatever it does with them."""
    held = []
    for value in equation.params.values():
        for each in value if isinstance(value, tuple | list) else (value,):
            if isinstance(each, _Closed):
                held.append(each)
            elif isinstance(each, jex.Jaxpr):
                held.append(_Closed(each, ()))
    return held


def is_code(value: object) -> bool:
    """Returns whether a parameter of an equation is a jaxpr, or a function."""
    return isinstance(value, _Closed | jex.Jaxpr) or callable(value)


def repetitions(equation: jex.JaxprEqn) -> int:
    """Returns how often an equation runs what it holds; 1 where that depends on the data."""
    length = equation.params.get("length", 1)
    return length if isinstance(length, int) else 1


def loops_without_end(equation: jex.JaxprEqn) -> bool:
    """Returns whether an equation is a while loop, or holds one."""
    return equation.primitive.name == "while" or any(
        loops_without_end(each) for held in inner_jaxprs(equation) for each in held.jaxpr.eqns
    )


def name_stack(equation: jex.JaxprEqn) -> str:
    """Returns the names of the scopes around an equation, with slashes."""
    return str(equation.source_info.name_stack)


def mark_of(equation: jex.JaxprEqn) -> str | None:
    """Returns the name that a `checkpoint_name` equation gives to its value; None for any other."""
    return str(equation.params["name"]) if equation.primitive.name == "name" else None


def fresh_variable(like: jex.Var) -> jex.Var:
    """Returns a new variable of the same shape and dtype."""
    return jex.Var(like.aval)


def is_literal(atom: Atom) -> bool:
    """Returns whether an atom is a value written into the jaxpr."""
    return isinstance(atom, jex.Literal)


def literal_value(atom: Atom) -> jax.Array:
    """Returns the value of a literal as an array of its dtype."""
    return jax.numpy.asarray(atom.val, atom.aval.dtype)


def structure(variable: Atom) -> jax.ShapeDtypeStruct:
    """Returns the shape and dtype of a variable as JAX takes them."""
    return jax.ShapeDtypeStruct(variable.aval.shape, variable.aval.dtype)


def shape_of(atom: Atom) -> tuple[int, ...]:
    """Returns the shape of an atom, random keys included; of what is no array, that of a single value."""
    return tuple(getattr(atom.aval, "shape", ()))


def growing_axes(before: Atom, after: Atom) -> list[int]:
    """Returns which axes of a value grow with the batch, given it for a smaller and for a larger one."""
    sizes = zip(shape_of(before), shape_of(after), strict=True)
    return [axis for axis, (small, large) in enumerate(sizes) if small != large]


def shape_and_dtype(atom: Atom) -> tuple[tuple[int, ...], np.dtype] | None:
    """Returns the shape and dtype of an atom; None if it is no array of numbers (but a random key, a reference)."""
    shape, dtype = getattr(atom.aval, "shape", None), getattr(atom.aval, "dtype", None)
    if shape is None or dtype is None or _is_reference(atom) or jax.numpy.issubdtype(dtype, jax.dtypes.extended):
        return None
    return tuple(int(size) for size in shape), np.dtype(dtype)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FlatJaxpr:
    """A jaxpr as plain data: equations that call nothing."""

    inputs: tuple[jex.Var, ...]
    """What goes in."""

    constants: Mapping[jex.Var, Any]
    """Arrays that the equations use besides."""

    equations: tuple[jex.JaxprEqn, ...]
    """The equations, in the order in which they run."""

    outputs: tuple[Atom, ...]
    """What comes out."""

    def needed(self, outputs: Iterable[Atom], also: Collection[int] = ()) -> list[int]:
        """Returns the numbers of the equations that `outputs` need, and that those in `also` need.

        Effects (prints, callbacks) count as not needed: a served network has none. Writes to a mutable array
        (`jax.new_ref`) are needed by whoever reads it.
        """
        wanted = {atom for atom in outputs if not is_literal(atom)}
        kept: list[int] = []
        for index in reversed(range(len(self.equations))):
            equation = self.equations[index]
            inputs = {atom for atom in equation.invars if not is_literal(atom)}
            writes = any(_is_reference(atom) for atom in wanted.intersection(inputs))
            if index in also or writes or wanted.intersection(equation.outvars):
                kept.append(index)
                wanted.update(inputs)
        return kept[::-1]

    def function(self, outputs: Sequence[Atom] | None = None) -> Callable[..., list[jax.Array]]:
        """Returns the function from the inputs to `outputs`, its own unless given, without what they do not need."""
        wanted = list(self.outputs if outputs is None else outputs)
        equations = [self.equations[number] for number in self.needed(wanted)]
        compute = function_of(equations, [*self.constants, *self.inputs], wanted)
        return lambda *inputs: compute(*self.constants.values(), *inputs)

    @property
    def has_references(self) -> bool:
        """Returns whether there are mutable arrays, which cannot go from one program to another."""
        return any(_is_reference(variable) for equation in self.equations for variable in equation.outvars)


def flat_of(closed: Closed) -> FlatJaxpr:
    """Returns a jaxpr as plain data, as it is."""
    return FlatJaxpr(
        inputs=tuple(closed.jaxpr.invars),
        constants=dict(zip(closed.jaxpr.constvars, closed.consts, strict=True)),
        equations=tuple(closed.jaxpr.eqns),
        outputs=tuple(closed.jaxpr.outvars),
    )


def function_of(
    equations: Sequence[jex.JaxprEqn], inputs: Sequence[jex.Var], outputs: Sequence[Atom]
) -> Callable[..., list[jax.Array]]:
    """Returns the function that equations are, from their inputs to `outputs`."""
    jaxpr = jex.Jaxpr(
        constvars=[], invars=list(inputs), outvars=list(outputs), eqns=list(equations), debug_info=_no_debug_info()
    )
    compute: Callable[..., list[jax.Array]] = jex.jaxpr_as_fun(_Closed(jaxpr, ()))
    return compute


def variables_of(structures: Iterable[jax.ShapeDtypeStruct]) -> tuple[jex.Var, ...]:
    """Returns new variables of these shapes and dtypes."""
    inputs = jax.make_jaxpr(lambda *arrays: arrays)(*structures).jaxpr.invars
    return tuple(fresh_variable(variable) for variable in inputs)  # JAX may hand out the same ones again


def written(function: Callable[..., Any], atoms: Sequence[Atom]) -> tuple[list[jex.JaxprEqn], list[Atom]]:
    """Returns a function of arrays as equations on atoms, and the atoms that are its results."""
    closed = jax.make_jaxpr(function)(*map(structure, atoms))
    if closed.consts:
        raise ValueError("the function closes over arrays; give them as arguments")
    known: dict[jex.Var, Atom] = dict(zip(closed.jaxpr.invars, atoms, strict=True))
    equations = [renamed(equation, known) for equation in closed.jaxpr.eqns]
    return equations, [read(atom, known) for atom in closed.jaxpr.outvars]


def renamed(equation: jex.JaxprEqn, known: dict[jex.Var, Atom]) -> jex.JaxprEqn:
    """Returns an equation on what its inputs are known as, with new outputs, which become known."""
    outputs = [fresh_variable(variable) for variable in equation.outvars]
    inputs = [read(atom, known) for atom in equation.invars]
    known.update(zip(equation.outvars, outputs, strict=True))
    copy: jex.JaxprEqn = equation.replace(invars=inputs, outvars=outputs)
    return copy


def read(atom: Atom, known: Mapping[jex.Var, Atom]) -> Atom:
    """Returns what an atom is known as; itself, if it is not."""
    return atom if is_literal(atom) else known.get(atom, atom)


def _is_reference(atom: Atom) -> bool:
    return hasattr(atom.aval, "inner_aval")


def _is_sharded(equation: jex.JaxprEqn) -> bool:
    shardings = (*equation.params.get("in_shardings", ()), *equation.params.get("out_shardings", ()))
    return any(type(sharding).__name__ != "UnspecifiedValue" for sharding in shardings)


def _no_debug_info() -> Any:
    return jax.make_jaxpr(lambda: ())().jaxpr.debug_info
