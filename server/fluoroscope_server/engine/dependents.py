"""Dependents: which values of a network are computed from others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fluoroscope_server.engine import jaxprs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import jax.extend.core as jex

    from fluoroscope_server.engine.flat import FlatNetwork
    from fluoroscope_server.engine.jaxprs import FlatJaxpr
    from fluoroscope_server.engine.loop import Loop


def dependents(flat: FlatNetwork, sources: Iterable[jex.Var]) -> set[jex.Var]:
    """Returns the sources, and all variables that are computed from them, those in the bodies of loops included."""
    found = set(sources)
    _spread(flat.jaxpr, flat.loops, found)
    return found


def _spread(jaxpr: FlatJaxpr, loops: Mapping[int, Loop], found: set[jex.Var]) -> None:
    """Adds to some variables all that are computed from them."""
    for index, equation in enumerate(jaxpr.equations):
        if index in loops:
            found |= _in_body(loops[index], found)
            ends = zip(equation.outvars, loops[index].body.outputs, strict=True)
            found.update(outer for outer, inner in ends if _any_in([inner], found))
        elif _any_in(equation.invars, found):
            found.update(equation.outvars)


def _in_body(loop: Loop, outside: set[jex.Var]) -> set[jex.Var]:
    body = loop.body
    pairs = zip(body.inputs, loop.inputs, strict=True)
    found = outside | {inner for inner, outer in pairs if not jaxprs.is_literal(outer) and outer in outside}
    _, carried, _ = loop.split_inputs(body.inputs)
    while True:
        _spread(body, loop.loops, found)
        ends = zip(carried, body.outputs, strict=False)
        more = {begin for begin, end in ends if begin not in found and _any_in([end], found)}
        if not more:
            return found
        found |= more


def _any_in(atoms: Iterable[jaxprs.Atom], found: set[jex.Var]) -> bool:
    return any(not jaxprs.is_literal(atom) and atom in found for atom in atoms)
