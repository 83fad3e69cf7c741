"""Which values are computed of the whole batch at once: there, rows that only fill a bucket would count."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

from fluoroscope_server.engine import jaxprs
from fluoroscope_server.engine.along import acts_along

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import jax.extend.core as jex

    from fluoroscope_server.engine.flat import FlatNetwork
    from fluoroscope_server.engine.jaxprs import FlatJaxpr
    from fluoroscope_server.engine.loop import Loop

    Step = tuple[jex.JaxprEqn, Loop | None]


def dependents(flat: FlatNetwork, sources: Iterable[jex.Var]) -> set[jex.Var]:
    """Returns the sources, and all variables that are computed from them, those in the bodies of loops included."""
    found = set(sources)
    _spread(flat.jaxpr, flat.loops, found)
    return found


def mixes_rows(flat: Mapping[int, FlatNetwork], input_count: int) -> bool | None:
    """Returns whether an output needs a value that depends on the inputs and is one for the whole batch.

    None if that cannot be told: the network has other equations for another batch size, or an output needs what acts
    along the axis of the batch and keeps it, such as a sort of the rows, which may be undone. `probing` finds out.

    Args:
        flat: the network for each batch size, two at least.
        input_count: how many of its last inputs are those of a request.
    """
    small, large = _two_largest(flat)
    dependent = dependents(large, large.jaxpr.inputs[-input_count:])
    whole = _of_whole_batch(_needed(small, large), _needed(large, small), dependent)
    if whole:
        return True
    across = dependents(large, _made_across(small, large, dependent))
    return None if whole is None or _any_in(large.jaxpr.outputs, across) else False


def mixed_values(flat: Mapping[int, FlatNetwork], input_count: int) -> frozenset[str]:
    """Returns the paths of the values in which a row may depend on other rows, whether an output needs them or not.

    Args:
        flat: the network for each batch size, two at least.
        input_count: how many of its last inputs are those of a request.
    """
    small, large = _two_largest(flat)
    everything = [range(len(each.jaxpr.equations)) for each in (small, large)]
    before, after = _made(small, everything[0], large), _made(large, everything[1], small)
    dependent = dependents(large, large.jaxpr.inputs[-input_count:])
    whole = _of_whole_batch(before, after, dependent)
    if whole is None:
        return frozenset(value.path for value in large.values)
    mixed = dependents(large, whole | _made_across(small, large, dependent))
    return frozenset(value.path for value in large.values if _any_in([value.atom], mixed))


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


def _two_largest(flat: Mapping[int, FlatNetwork]) -> tuple[FlatNetwork, FlatNetwork]:
    """Returns the network for the two largest batch sizes: a batch of one may be computed by other equations."""
    (_, small), (_, large) = sorted(flat.items())[-2:]
    return small, large


def _of_whole_batch(
    before: Iterable[jex.Var], after: Iterable[jex.Var], dependent: set[jex.Var]
) -> set[jex.Var] | None:
    """Returns those that depend on the inputs and are one for the whole batch; None if the sizes cannot be compared."""
    small, large = list(before), list(after)
    if len(small) != len(large):
        return None
    return {new for old, new in zip(small, large, strict=True) if new in dependent and _growing(old, new) != 1}


def _made_across(small: FlatNetwork, large: FlatNetwork, dependent: set[jex.Var]) -> set[jex.Var]:
    """Returns what is made by equations that act along an axis of theirs that grows with the batch, and keep it.

    Where the two sizes have other equations, that is all that depends on the inputs.
    """
    pairs = list(zip_longest(_steps(small.jaxpr, small.loops), _steps(large.jaxpr, large.loops)))
    if any(old is None or new is None or old[0].primitive is not new[0].primitive for old, new in pairs):
        return set(dependent)
    return {made for old, new in pairs if _acts_across(old, new, dependent) for made in new[0].outvars}


def _acts_across(old: Step, new: Step, dependent: set[jex.Var]) -> bool:
    (before, small), (after, large) = old, new
    if small is not None and large is not None and _is_over_rows(large, small):
        return _sees_other_rows(small, large, dependent)
    if len(before.invars) != len(after.invars):  # an operand for each row
        return _any_in(after.invars, dependent)
    return any(
        _any_in([wider], dependent) and any(acts_along(after, position, axis) for axis in _growing_axes(atom, wider))
        for position, (atom, wider) in enumerate(zip(before.invars, after.invars, strict=True))
    )


def _sees_other_rows(small: Loop, large: Loop, dependent: set[jex.Var]) -> bool:
    """Returns whether an iteration of a loop over the rows has more of the inputs than its own row.

    That is something that is carried along, the same for all iterations, or has an axis of the batch besides.
    """
    shared = large.const_count + large.carry_count
    inputs = zip(small.body.inputs, large.body.inputs, strict=True)
    return any(
        wider in dependent and (position < shared or bool(_growing_axes(atom, wider)))
        for position, (atom, wider) in enumerate(inputs)
    )


def _steps(jaxpr: FlatJaxpr, loops: Mapping[int, Loop]) -> Iterator[Step]:
    for index, equation in enumerate(jaxpr.equations):
        yield equation, loops.get(index)
        if index in loops:
            yield from _steps(loops[index].body, loops[index].loops)


def _needed(flat: FlatNetwork, other: FlatNetwork) -> Iterator[jex.Var]:
    """Yields the variables that the outputs need, those in the bodies of loops included; see `_made`.

    What a needed equation makes beside, such as the last count of a loop, is not needed.
    """
    indices = list(flat.jaxpr.needed(flat.jaxpr.outputs))
    ends = [*flat.jaxpr.outputs, *(atom for index in indices for atom in flat.jaxpr.equations[index].invars)]
    taken = {atom for atom in ends if not jaxprs.is_literal(atom)}
    made = {var for index in indices for var in flat.jaxpr.equations[index].outvars}
    return (var for var in _made(flat, indices, other) if var in taken or var not in made)


def _made(flat: FlatNetwork, indices: Iterable[int], other: FlatNetwork) -> Iterator[jex.Var]:
    """Yields the variables that these equations make, those in the bodies of loops included.

    A loop over the rows is left out: it has as many iterations as there are, and in each the values of one.
    """
    for index in indices:
        yield from flat.jaxpr.equations[index].outvars
        if index in flat.loops and not _is_over_rows(flat.loops[index], other.loops.get(index)):
            yield from _all_in(flat.loops[index])


def _is_over_rows(loop: Loop, other: Loop | None) -> bool:
    return other is not None and loop.length != other.length


def _all_in(loop: Loop) -> Iterator[jex.Var]:
    for index, equation in enumerate(loop.body.equations):
        yield from equation.outvars
        if index in loop.loops:
            yield from _all_in(loop.loops[index])


def _growing(before: jaxprs.Atom, after: jaxprs.Atom) -> int:
    """Returns how many axes of a value grow with the batch; 1 for a value that is none of numbers."""
    small, large = jaxprs.shape_and_dtype(before), jaxprs.shape_and_dtype(after)
    if small is None or large is None or len(small[0]) != len(large[0]):
        return 1
    return len(_growing_axes(before, after))


def _growing_axes(before: jaxprs.Atom, after: jaxprs.Atom) -> list[int]:
    small, large = jaxprs.shape_and_dtype(before), jaxprs.shape_and_dtype(after)
    if small is None or large is None:
        return []
    return [axis for axis, sizes in enumerate(zip(small[0], large[0], strict=False)) if sizes[0] != sizes[1]]
