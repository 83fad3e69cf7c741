"""Jaxprs: reading them and making new ones of their parts.

All that this server touches of JAX's own data structures is in this file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import jax.extend.core as jex
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

Atom: TypeAlias = Any
"""A variable of a jaxpr, or a literal."""

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
each is equal to its jaxpr written out in place."""

_ANONYMOUS = frozenset({"checkpoint", "remat", "remat2", "closed_call", "core_call"})
"""Of these, those that stand for no function that a person would look for."""

_WRAPPERS = frozenset({"core_fn"})
"""The names of functions that Flax wraps around those of its users, in `nn.jit`."""


def called_jaxpr(equation: jex.JaxprEqn) -> jex.ClosedJaxpr | None:
    """Returns the jaxpr that an equation calls, if it may be written out in the equation's place."""
    parameter = _CALLED.get(equation.primitive.name)
    if parameter is None or parameter not in equation.params or _is_sharded(equation):
        return None
    jaxpr = equation.params[parameter]
    return jaxpr if isinstance(jaxpr, jex.ClosedJaxpr) else jex.ClosedJaxpr(jaxpr, ())


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


def shape_and_dtype(atom: Atom) -> tuple[tuple[int, ...], np.dtype] | None:
    """Returns the shape and dtype of an atom; None if it is no array of numbers (but a random key, a reference)."""
    shape, dtype = getattr(atom.aval, "shape", None), getattr(atom.aval, "dtype", None)
    if shape is None or dtype is None or _is_reference(atom) or jax.numpy.issubdtype(dtype, jax.dtypes.extended):
        return None
    return tuple(int(size) for size in shape), np.dtype(dtype)


def with_equations(
    closed: jex.ClosedJaxpr, equations: list[jex.JaxprEqn], constants: dict[jex.Var, Any], outputs: list[Atom]
) -> jex.ClosedJaxpr:
    """Returns a jaxpr of the same inputs with other equations, constants and outputs."""
    jaxpr = closed.jaxpr.replace(
        constvars=list(constants), eqns=equations, outvars=outputs, effects=frozenset(), debug_info=_no_debug_info()
    )
    return jex.ClosedJaxpr(jaxpr, list(constants.values()))


def pruned(closed: jex.ClosedJaxpr, outputs: list[Atom]) -> jex.ClosedJaxpr:
    """Returns the part of a flat jaxpr that `outputs` need, and nothing else.

    Effects (prints, callbacks) count as not needed: a served network has none. Writes to a mutable array
    (`jax.new_ref`) are needed by whoever reads it.
    """
    needed = {atom for atom in outputs if not is_literal(atom)}
    kept: list[jex.JaxprEqn] = []
    for equation in reversed(closed.jaxpr.eqns):
        inputs = {atom for atom in equation.invars if not is_literal(atom)}
        if needed.intersection(equation.outvars) or any(_is_reference(atom) for atom in needed.intersection(inputs)):
            kept.append(equation)
            needed.update(inputs)
    constants = dict(zip(closed.jaxpr.constvars, closed.consts, strict=True))
    used = {variable: value for variable, value in constants.items() if variable in needed}
    return with_equations(closed, kept[::-1], used, outputs)


def dependents(closed: jex.ClosedJaxpr, sources: Iterable[jex.Var]) -> set[jex.Var]:
    """Returns the sources, and all variables of a flat jaxpr that are computed from them."""
    found = set(sources)
    for equation in closed.jaxpr.eqns:
        if any(not is_literal(atom) and atom in found for atom in equation.invars):
            found.update(equation.outvars)
    return found


def _is_reference(atom: Atom) -> bool:
    return hasattr(atom.aval, "inner_aval")


def _is_sharded(equation: jex.JaxprEqn) -> bool:
    shardings = (*equation.params.get("in_shardings", ()), *equation.params.get("out_shardings", ()))
    return any(type(sharding).__name__ != "UnspecifiedValue" for sharding in shardings)


def _no_debug_info() -> Any:
    return jax.make_jaxpr(lambda: ())().jaxpr.debug_info
