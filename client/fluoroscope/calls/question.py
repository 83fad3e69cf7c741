"""What an inspection asks for, as the contract says it: the same for one that runs and one that is only planned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import ml_dtypes
import numpy as np

from fluoroscope.calls.argument import building, names_of, whole
from fluoroscope.calls.errors import InvalidRequestError
from fluoroscope.calls.execution import execution_to_wire
from fluoroscope.calls.gradient import Gradient
from fluoroscope.calls.kind import kinds_to_wire
from fluoroscope.calls.reduction import reduction_messages, reductions_of
from fluoroscope.calls.selector import fill_version
from fluoroscope.calls.slice import slice_messages
from fluoroscope.v1 import inspection_pb2
from fluoroscope.wire import WireError, dtype_to_wire

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import DTypeLike

    from fluoroscope.calls.execution import Execution
    from fluoroscope.calls.reduction import Reduction
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
    outputs: str | Sequence[str],
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
    if not isinstance(gradient, Gradient | None):
        raise InvalidRequestError(
            f'gradient is {gradient!r}; expected one such as Gradient("logits", index=4)', field="gradient"
        )
    reductions = reductions_of(reduce)
    alone = gradient is not None and gradient.names_more and not sites
    with building():
        request = inspection_pb2.InspectActivationsRequest(
            model=model,
            captures=() if alone else capture_messages(sites, kinds, reductions, dtype, slices),
            outputs=names_of(outputs, "outputs"),
            max_bytes=0 if max_bytes is None else whole(max_bytes, "max_bytes"),
            execution=execution_to_wire(execution),
            edits=edits,
            gradient=None if gradient is None else gradient.message(reduction_messages(reductions)),
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
            groups.setdefault(reductions_of(each), []).append(glob)
    else:
        groups = {reductions_of(reduce): list(names_of(sites, "sites"))}
    if not any(groups.values()):
        raise InvalidRequestError('no sites are given; "**" means all of them', field="sites")
    # What can be gone through only once, such as a generator, is for every group.
    numbers, cuts = kinds_to_wire(kinds), slice_messages(slices)
    return [
        inspection_pb2.Capture(
            sites=globs,
            kinds=numbers,
            slices=cuts,
            reductions=reduction_messages(reductions),
            data_type=None if dtype is None else _data_type(dtype),
        )
        for reductions, globs in groups.items()
    ]


def _data_type(dtype: DTypeLike) -> DataType.ValueType:
    try:
        return dtype_to_wire(np.dtype(getattr(ml_dtypes, dtype, dtype) if isinstance(dtype, str) else dtype))
    except (TypeError, WireError) as error:
        raise InvalidRequestError(
            f"dtype is {dtype!r}, which is none: {error}; expected bfloat16, float8_e4m3fn, int8 or the like",
            field="dtype",
        ) from None
