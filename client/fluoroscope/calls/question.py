"""What an inspection asks for, as the contract says it: the same for one that runs and one that is only planned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import ml_dtypes
import numpy as np

from fluoroscope.calls.argument import several
from fluoroscope.calls.errors import InvalidRequestError
from fluoroscope.calls.execution import execution_to_wire
from fluoroscope.calls.kind import kinds_to_wire
from fluoroscope.calls.reduction import Reduction
from fluoroscope.calls.selector import fill_version
from fluoroscope.v1 import inspection_pb2
from fluoroscope.wire import WireError, dtype_to_wire

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import DTypeLike

    from fluoroscope.calls.execution import Execution
    from fluoroscope.calls.gradient import Gradient
    from fluoroscope.calls.slice import Slice
    from fluoroscope.v1.tensor_pb2 import DataType

Sites: TypeAlias = "str | Sequence[str] | Mapping[str, Reduction[Any] | Sequence[Reduction[Any]]]"
"""Paths or globs of sites, or a mapping from them to what is to be done to each."""


def inspection_message(
    model: str,
    *,
    sites: Sites,
    kinds: str | Iterable[str],
    reduce: Reduction[Any] | Sequence[Reduction[Any]],
    dtype: DTypeLike | None,
    slices: Slice | Sequence[Slice],
    outputs: Sequence[str],
    max_bytes: int | None,
    execution: Execution,
    edits: Sequence[inspection_pb2.Edit],
    gradient: Gradient | None,
    version: int | None,
    label: str | None,
) -> inspection_pb2.InspectActivationsRequest:
    """Returns the request for an inspection, without its inputs; takes what `inspect_activations` takes.

    Raises:
        InvalidRequestError: The contract cannot say it.
    """
    reductions = several(reduce)
    alone = gradient is not None and gradient.names_more and not sites
    request = inspection_pb2.InspectActivationsRequest(
        model=model,
        captures=() if alone else capture_messages(sites, kinds, reductions, dtype, slices),
        outputs=outputs,
        max_bytes=max_bytes or 0,
        execution=execution_to_wire(execution),
        edits=edits,
        gradient=None if gradient is None else gradient.message([_reduction(each) for each in reductions]),
    )
    fill_version(request, version, label)
    return request


def capture_messages(
    sites: Sites,
    kinds: str | Iterable[str],
    reduce: Reduction[Any] | Sequence[Reduction[Any]],
    dtype: DTypeLike | None,
    slices: Slice | Sequence[Slice],
) -> list[inspection_pb2.Capture]:
    """Returns the captures as the contract says them; raises InvalidRequestError if they name no site."""
    if isinstance(sites, Mapping):
        groups: dict[tuple[Reduction[Any], ...], list[str]] = {}
        for glob, each in sites.items():
            groups.setdefault(several(each), []).append(glob)
    else:
        groups = {several(reduce): list(several(sites))}
    if not any(groups.values()):
        raise InvalidRequestError('no sites are given; "**" means all of them', field="sites")
    # What can be gone through only once, such as a generator, is for every group.
    numbers, cuts = kinds_to_wire(kinds), [cut.message() for cut in several(slices)]
    return [
        inspection_pb2.Capture(
            sites=globs,
            kinds=numbers,
            slices=cuts,
            reductions=[_reduction(reduction) for reduction in reductions],
            data_type=None if dtype is None else _data_type(dtype),
        )
        for reductions, globs in groups.items()
    ]


def _reduction(reduction: Reduction[Any]) -> inspection_pb2.Reduction:
    if not isinstance(reduction, Reduction):
        raise InvalidRequestError(f"reduce is {reduction!r}; expected a reduction such as Statistics()", field="reduce")
    try:
        return reduction.message()
    except (TypeError, ValueError) as error:  # protobuf's, of a number that has no room in its field
        raise InvalidRequestError(f"{reduction!r} cannot be asked for: {error}", field="reduce") from None


def _data_type(dtype: DTypeLike) -> DataType.ValueType:
    try:
        return dtype_to_wire(np.dtype(getattr(ml_dtypes, dtype, dtype) if isinstance(dtype, str) else dtype))
    except (TypeError, WireError) as error:
        raise InvalidRequestError(
            f"dtype is {dtype!r}, which is none: {error}; expected bfloat16, float8_e4m3fn, int8 or the like",
            field="dtype",
        ) from None
