"""Which values a reduction can take, and the errors about those that it cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fluoroscope_server.errors import InvalidRequestError
from fluoroscope_server.signature import BATCH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fluoroscope_server.engine.reductions.reduction import ValueSpec


def check_real(value: ValueSpec, *, what: str, field: str) -> None:
    """Raises InvalidRequestError if the value is complex."""
    if np.issubdtype(value.dtype, np.complexfloating):
        raise InvalidRequestError(
            f"site {value.site!r} is {value.dtype}, and {what} are of real values; capture it full", field=field
        )


def check_units(value: ValueSpec, *, what: str, field: str) -> None:
    """Raises InvalidRequestError if the last axis of the value can be no units: there is none, or it is the batch."""
    if not value.shape:
        raise InvalidRequestError(
            f"site {value.site!r} is a scalar, and {what} are along the last axis; choose other sites", field=field
        )
    if value.shape[-1] == BATCH:
        raise InvalidRequestError(
            f"the last axis of site {value.site!r} is the batch, and {what} are along the last axis, of units; "
            "choose other sites, or capture it full",
            field=field,
        )


def check_axes(axes: Sequence[int], value: ValueSpec, *, field: str) -> None:
    """Raises InvalidRequestError if the value lacks an axis, or one is named twice."""
    count = len(value.shape)
    for axis in axes:
        if not -count <= axis < count:
            axes_there = f"axes 0 to {count - 1}, or -{count} to -1" if count else "no axes: it is a scalar"
            raise InvalidRequestError(f"site {value.site!r} has no axis {axis}: it has {axes_there}", field=field)
    if len(set(normal_axes(axes, count))) < len(axes):
        raise InvalidRequestError(
            f"axes {', '.join(map(str, axes))} of site {value.site!r}, which has {count}, are not all different",
            field=field,
        )


def normal_axes(axes: Sequence[int], count: int) -> tuple[int, ...]:
    """Returns axes counted from the first, in order; all of `count` if none is named."""
    return tuple(sorted(axis % count for axis in axes)) if axes else tuple(range(count))


def shape_without(axes: Sequence[int], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns a shape without the named axes, without all if none is named."""
    gone = normal_axes(axes, len(shape))
    return tuple(size for axis, size in enumerate(shape) if axis not in gone)
