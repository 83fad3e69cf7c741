"""The captures of a plan, as they are computed inside a program: values cut and reduced on the device."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import jax
import numpy as np

from fluoroscope_server.engine.reductions import Full

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

    from fluoroscope_server.engine.arguments import Arguments
    from fluoroscope_server.engine.plan import CapturedValue
    from fluoroscope_server.engine.reductions import Reduction

Arrays: TypeAlias = "tuple[jax.Array, ...]"
"""The arrays of one result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Captures:
    """What a program computes of the values that it captures. Made while it is traced by JAX."""

    captured: tuple[CapturedValue, ...]
    """The captured values of the plan."""

    batch_axes: tuple[int | None, ...]
    """Which axis of each is the batch, before it is cut."""

    rows: jax.Array
    """How many rows are real, an int32 scalar."""

    arguments: Mapping[int, Arguments]
    """The arguments of captured values, by their place in the plan."""

    raw: frozenset[int] = frozenset()
    """Which captured values leave as they are: they are of one iteration of a loop that is reduced when it ends."""

    def kind(self, place: int) -> Hashable:
        """Returns what is the same for all captured values that one piece of program can reduce."""
        if place in self.raw:
            return "raw"
        value = self.captured[place]
        return (value.cuts, value.reduction, self.batch_axes[place])

    def has_arguments(self, place: int) -> bool:
        """Returns whether a result depends on more than the value, and so may differ from others of its kind."""
        spec = self.captured[place]
        return bool(spec.cuts or spec.reduction.numbers)

    def inside(self, arguments: Mapping[int, Arguments], raw: Iterable[int]) -> Captures:
        """Returns the captures in the body of a loop: with other arguments for some, and some more left as they are."""
        return replace(self, arguments={**self.arguments, **arguments}, raw=self.raw.union(raw))

    def reduce(self, place: int, value: jax.Array) -> Arrays:
        """Returns the result of a captured value, given its place in the plan."""
        if place in self.raw:
            return (value,)
        spec = self.captured[place]
        starts, numbers = self.arguments[place]
        for index, cut in enumerate(spec.cuts):
            value = jax.lax.dynamic_slice_in_dim(value, starts[index], cut.extent, axis=cut.axis)
            value = jax.lax.slice_in_dim(value, 0, cut.extent, stride=cut.step, axis=cut.axis)
        if spec.reduction == Full():
            return (value,)  # itself: what a function returns would be another array, and be copied
        arrays: Arrays = _reduce(value, self._valid(place, value), numbers, reduction=spec.reduction)
        return arrays

    def _valid(self, place: int, value: jax.Array) -> jax.Array | None:
        axis = self.batch_axes[place]
        if axis is None or any(cut.axis == axis for cut in self.captured[place].cuts):
            return None
        shape = [size if each == axis else 1 for each, size in enumerate(value.shape)]
        return jax.lax.broadcasted_iota(np.int32, shape, axis) < self.rows


@partial(jax.jit, static_argnames="reduction")
def _reduce(value: jax.Array, valid: jax.Array | None, numbers: jax.Array, *, reduction: Reduction) -> Arrays:
    """Returns the result of a value; compiled as one function, layers that are alike are traced and lowered once."""
    return reduction.compute(value, valid, numbers)
