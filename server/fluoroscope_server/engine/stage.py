"""Stages: the compiled pieces of a program, which run one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from fluoroscope_server.engine.arguments import arguments_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, MutableMapping, Sequence

    from fluoroscope_server.engine.captures import Arrays
    from fluoroscope_server.engine.inspection import Inspection

Key: TypeAlias = "Hashable"
"""What a value between stages is known by: a variable of the flat jaxpr, or a name of our own."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stage:
    """A compiled function of values that are known, which gives more values and some results."""

    executable: Any
    """`(values, scalars, rows, arguments) -> arrays`; takes the shapes and dtypes it was compiled for."""

    whole: Callable[[Sequence[Any]], tuple[Sequence[Any], Sequence[Arrays]]]
    """Makes the values and the results of these arrays."""

    inputs: tuple[Key, ...]
    """The values that it takes."""

    outputs: tuple[Key, ...]
    """The values that it gives."""

    places: tuple[int, ...] = ()
    """The captured values, by their place in the plan, whose results it gives."""

    scalars: tuple[int, ...] = ()
    """Numbers that tell it which part of a loop it is."""

    released: tuple[Key, ...] = ()
    """The values that nobody needs when it has run."""

    @property
    def peak_bytes(self) -> int:
        """Returns how much memory XLA says that it takes beside its inputs; 0 if XLA does not say."""
        analysis = self.executable.memory_analysis()
        return 0 if analysis is None else int(analysis.temp_size_in_bytes + analysis.output_size_in_bytes)

    def run(self, values: MutableMapping[Key, Any], rows: np.ndarray, inspection: Inspection) -> tuple[Arrays, ...]:
        """Starts it on the device; adds what it gives to `values`, takes away what is released, returns the results."""
        arrays = self.executable(
            tuple(values[key] for key in self.inputs),
            tuple(np.asarray(number, np.int32) for number in self.scalars),
            rows,
            arguments_of(inspection, self.places),
        )
        given, results = self.whole(arrays)
        values.update(zip(self.outputs, given, strict=True))
        for key in self.released:
            del values[key]
        ordered: tuple[Arrays, ...] = tuple(results)
        return ordered
