"""What one result of an inspection will be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fluoroscope_server.engine.reductions import Full, Part
from fluoroscope_server.signature import BATCH

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from fluoroscope_server.engine.reductions import Reduction, ValueSpec
    from fluoroscope_server.engine.site import Site
    from fluoroscope_server.signature import Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultSpec:
    """What one result will be."""

    name: str
    """The path of a site, or the name of an output."""

    site: Site | None
    """The site; None for an output of the network."""

    reduction: Reduction
    """What is computed of the value."""

    part: str | None
    """Which part of that this is, empty if there is one only; None for a summary."""

    dtype: np.dtype
    """The type of each element of the tensor; for a summary: of the value that it describes."""

    shape: tuple[int, ...]
    """The shape of the tensor, or of the value that a summary describes, without rows that only fill a bucket."""

    value_dtype: np.dtype
    """The type of each element of the value, before anything was done to it."""

    value_shape: tuple[int, ...]
    """The shape of the value, after slices, without rows that only fill a bucket."""

    padded_axis: int | None
    """The axis of the program's result from which such rows must be cut; None if there is none."""

    edits: tuple[int, ...] = ()
    """Which edits of the request change the value at this site."""

    is_gradient: bool = False
    """Whether it is not of the value, but of the gradient with respect to it."""

    @property
    def byte_size(self) -> int:
        """Returns how many bytes the result has when sent in chunks; 0 for a summary."""
        return 0 if self.part is None else math.prod(self.shape) * self.dtype.itemsize

    def bytes_in(self, bucket: int) -> int:
        """Returns how many bytes it would have with every row of a bucket."""
        if self.padded_axis is None or self.part is None:
            return self.byte_size
        return self.byte_size // self.shape[self.padded_axis] * bucket


def results_of(site: Site, value: ValueSpec, reduction: Reduction, rows: int) -> tuple[ResultSpec, ...]:
    """Returns the results that a reduction of a site's value gives."""
    parts = reduction.parts(value)
    return tuple(
        ResultSpec(
            name=site.path,
            site=site,
            reduction=reduction,
            part=part.name if parts else None,
            dtype=part.dtype,
            shape=tuple(rows if size == BATCH else size for size in part.shape),
            value_dtype=value.dtype,
            value_shape=tuple(rows if size == BATCH else size for size in value.shape),
            padded_axis=part.shape.index(BATCH) if BATCH in part.shape else None,
        )
        for part in parts or (Part(dtype=value.dtype, shape=value.shape),)
    )


def output_results(names: Sequence[str], signature: Signature, rows: int) -> list[ResultSpec]:
    """Returns the results that are outputs of the network, in the order of the signature."""
    return [
        ResultSpec(
            name=spec.name,
            site=None,
            reduction=Full(),
            part="",
            dtype=spec.dtype,
            shape=spec.with_rows(rows),
            value_dtype=spec.dtype,
            value_shape=spec.with_rows(rows),
            padded_axis=0,
        )
        for spec in signature.outputs
        if spec.name in names
    ]
