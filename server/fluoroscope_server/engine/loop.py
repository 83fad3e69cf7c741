"""Loops: the scans of a flat jaxpr, each with its body, flat too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import jax

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import jax.extend.core as jex

    from fluoroscope_server.engine.jaxprs import Atom, FlatJaxpr

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Loop:
    """A scan, whose number of iterations is known when it is compiled."""

    body: FlatJaxpr
    """One iteration, without calls: `(constants, carry, x) -> (carry, y)`."""

    loops: Mapping[int, Loop]
    """The loops in the body, by the number of their equation there."""

    inputs: tuple[Atom, ...]
    """What goes in, in the flat jaxpr: constants, first carry, and the xs of all iterations."""

    outputs: tuple[jex.Var, ...]
    """What comes out, in the flat jaxpr: last carry, and the ys of all iterations."""

    const_count: int
    """How many of the inputs are the same in each iteration."""

    carry_count: int
    """How many of the inputs, behind those, go from one iteration to the next."""

    length: int
    """How many iterations there are."""

    reverse: bool
    """Whether the last x comes first."""

    def split_inputs(self, values: Sequence[T]) -> tuple[list[T], list[T], list[T]]:
        """Returns the constants, the carry and the xs among the inputs of the loop, or of its body."""
        first, second = self.const_count, self.const_count + self.carry_count
        return list(values[:first]), list(values[first:second]), list(values[second:])

    def index_at(self, position: int) -> int:
        """Returns the place in xs of the iteration that is the `position`-th to run; its own inverse."""
        return self.length - 1 - position if self.reverse else position

    def function(self, atoms: Sequence[Atom] = ()) -> Callable[..., tuple[jax.Array, ...]]:
        """Returns the loop as a function of its inputs: the outputs, and then values of its body, stacked."""
        compute, count = self.body.function([*self.body.outputs, *atoms]), self.carry_count

        def run(*inputs: jax.Array) -> tuple[jax.Array, ...]:
            consts, first, xs = self.split_inputs(inputs)

            def body(carry: Any, x: Any) -> Any:
                results = compute(*consts, *carry, *x)
                return list(results[:count]), list(results[count:])

            carry, ys = jax.lax.scan(body, first, xs, length=self.length, reverse=self.reverse)
            return (*carry, *ys)

        compiled: Callable[..., tuple[jax.Array, ...]] = jax.jit(run)  # one equation when it is written into another
        return compiled
