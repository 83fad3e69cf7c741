"""Floating point operations, counted on jaxprs: what a value costs, before anything is compiled.

Counted as XLA's own cost analysis does: two for each multiplication and addition of a matrix product or a
convolution, one for each element that any other arithmetic makes, and none for moving data. A loop counts as often as
it runs.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fluoroscope_server.engine import jaxprs
from fluoroscope_server.engine.site import ALL

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import jax.extend.core as jex

    from fluoroscope_server.engine.flat import FlatNetwork
    from fluoroscope_server.engine.loop import Loop
    from fluoroscope_server.engine.steps import Wanted

_MOVES = frozenset(
    {
        *("bitcast_convert_type", "broadcast_in_dim", "concatenate", "convert_element_type", "copy", "copy_p"),
        *("device_put", "dynamic_slice", "dynamic_update_slice", "expand_dims", "gather", "iota", "name"),
        *("optimization_barrier", "pad", "reshape", "rev", "select_n", "sharding_constraint", "slice", "split"),
        *("squeeze", "stop_gradient", "transpose"),
    }
)
"""Primitives that compute nothing."""

_REDUCES = frozenset(
    {"argmax", "argmin", "reduce_and", "reduce_max", "reduce_min", "reduce_or", "reduce_prod", "reduce_sum"}
)
"""Primitives that take an operation for each element that goes in."""


class Flops:
    """The operations of a network, and which of them each value needs."""

    def __init__(self, flat: FlatNetwork) -> None:
        """Counts every equation."""
        equations = flat.jaxpr.equations
        self._counts = np.array([equation_flops(each) for each in equations])
        self._needs: dict[jex.Var, int] = {}
        for index, equation in enumerate(equations):
            need = self._of_inputs(equation.invars) | 1 << index
            self._needs.update(dict.fromkeys(equation.outvars, need))
        self._bodies: dict[Loop, _Body] = {}
        self._sums: dict[int, float] = {}
        self.total = self._sum(self._of_inputs(flat.jaxpr.outputs))

    def fraction(self, atom: jaxprs.Atom, around: Sequence[tuple[Loop, int]] = ()) -> float:
        """Returns the part of all operations that a value needs, from 0 to 1.

        Args:
            atom: the value.
            around: the loops that it is in, the outermost first, and which of the iterations of each it is of, by how
                many run before; `ALL` for all.
        """
        count = self._sum(self._of_inputs(around[0][0].inputs if around else [atom]))
        count += _flops_inside(around, atom, self._bodies)
        return min(1.0, count / self.total) if self.total else 1.0

    def _of_inputs(self, atoms: Iterable[jaxprs.Atom]) -> int:
        need = 0
        for atom in atoms:
            if not jaxprs.is_literal(atom):
                need |= self._needs.get(atom, 0)
        return need

    def _sum(self, need: int) -> float:
        """Returns the operations of a set of equations, a bit for each."""
        if need not in self._sums:
            count = len(self._counts)
            bits = np.frombuffer(need.to_bytes(count // 8 + 1, "little"), np.uint8)
            self._sums[need] = float(np.unpackbits(bits, bitorder="little")[:count] @ self._counts)
        return self._sums[need]


class _Body:
    """The operations of one iteration."""

    def __init__(self, loop: Loop) -> None:
        self._body = loop.body
        self._known: dict[tuple[jex.Var, ...], float] = {}
        self.total = math.fsum(equation_flops(equation) for equation in self._body.equations)

    def of(self, atoms: Iterable[jaxprs.Atom]) -> float:
        """Returns the operations that values in the body need."""
        needing = tuple(atom for atom in atoms if not jaxprs.is_literal(atom))
        if needing not in self._known:
            needed = self._body.needed(needing)
            self._known[needing] = math.fsum(equation_flops(self._body.equations[number]) for number in needed)
        return self._known[needing]


def _flops_inside(around: Sequence[tuple[Loop, int]], atom: jaxprs.Atom, bodies: dict[Loop, _Body]) -> float:
    """Returns the operations that a value needs inside of the outermost loop that it is in."""
    if not around:
        return 0.0
    (loop, position), *deeper = around
    body = bodies[loop] if loop in bodies else bodies.setdefault(loop, _Body(loop))
    before = (loop.length - 1 if position == ALL else position) * body.total
    return before + body.of(deeper[0][0].inputs if deeper else [atom]) + _flops_inside(deeper, atom, bodies)


def loop_flops(loop: Loop, wanted: Sequence[Wanted], *, whole: bool) -> float:
    """Returns the operations of a loop in whose body values are captured, and which may end with the last of them."""
    bodies = {loop: _Body(loop)}
    if whole or any(each.iteration == ALL for each in wanted):
        return loop.length * bodies[loop].total
    return max(_flops_inside(each.around, each.atom, bodies) for each in wanted)


def equation_flops(equation: jex.JaxprEqn) -> float:
    """Returns the floating point operations of one equation; of a loop, those of all its iterations."""
    name = equation.primitive.name
    if name in _COUNTS:
        return _COUNTS[name](equation)
    inner = [math.fsum(equation_flops(each) for each in held.jaxpr.eqns) for held in jaxprs.inner_jaxprs(equation)]
    if inner:  # of branches, the dearest
        return jaxprs.repetitions(equation) * max(inner)
    if name in _MOVES:
        return 0.0
    if name in _REDUCES:
        return float(_size(equation.invars[0]))
    return float(sum(_size(variable) for variable in equation.outvars))


def _dot_flops(equation: jex.JaxprEqn) -> float:
    (contracted, _), _ = equation.params["dimension_numbers"]
    shape = _shape(equation.invars[0])
    return float(2 * _size(equation.outvars[0]) * math.prod(shape[axis] for axis in contracted))


def _convolution_flops(equation: jex.JaxprEqn) -> float:
    kernel = _shape(equation.invars[1])
    out_features = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
    return float(2 * _size(equation.outvars[0]) * math.prod(kernel) / max(out_features, 1))


_COUNTS = {"dot_general": _dot_flops, "conv_general_dilated": _convolution_flops}


def _shape(atom: jaxprs.Atom) -> tuple[int, ...]:
    return tuple(getattr(atom.aval, "shape", ()))


def _size(atom: jaxprs.Atom) -> int:
    return math.prod(_shape(atom))
