"""Edits, from messages: each change in one row of one table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fluoroscope.wire import WireError, decode_tensor
from fluoroscope_server.engine import (
    Add,
    Edit,
    MeanAblate,
    PatchFromInputs,
    PatchFromRow,
    Scale,
    Set,
    Zero,
    check_edits,
    check_names,
)
from fluoroscope_server.errors import InvalidRequestError
from fluoroscope_server.rpc.decoding import check_count, decode_inputs, decode_kinds, decode_slices

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from fluoroscope.v1 import inspection_pb2 as inspection
    from fluoroscope.v1.tensor_pb2 import Tensor
    from fluoroscope_server.engine import Change
    from fluoroscope_server.signature import Signature


MOST_INDICES = 1 << 20
"""How many rows and units the edits of one request may name together."""


def decode_edits(messages: Sequence[inspection.Edit], signature: Signature) -> list[Edit]:
    """Returns the edits of an inspection of a network with this signature.

    Raises:
        InvalidRequestError: one of them cannot be right, or they name too many rows and units.
        LimitExceededError: there are too many of them, or of the sites that they name.
    """
    if not messages:
        return []
    check_edits(len(messages))
    check_names(sum(len(each.sites) for each in messages), field="edits")
    indices = sum(len(each.rows) + len(each.units) + len(each.patch_from_row.rows) for each in messages)
    check_count(indices, MOST_INDICES, "rows and units", field="edits")
    return [_edit(message, signature, f"edits[{index}]") for index, message in enumerate(messages)]


def _edit(message: inspection.Edit, signature: Signature, field: str) -> Edit:
    name = message.WhichOneof("change")
    if name is None:
        raise InvalidRequestError(f"no known change is set; the known are {', '.join(CHANGES)}", field=field)
    return Edit(
        sites=tuple(message.sites),
        kinds=decode_kinds(message.kinds, field=f"{field}.kinds"),
        change=CHANGES[name](getattr(message, name), signature, f"{field}.{name}"),
        rows=tuple(message.rows),
        slices=decode_slices(message.slices, field=f"{field}.slices"),
        units=tuple(message.units),
    )


def _array(tensor: Tensor, field: str) -> np.ndarray:
    try:
        return decode_tensor(tensor)
    except WireError as error:
        raise InvalidRequestError(str(error), field=field, reason="BROKEN_TENSOR") from error


def _patch_from_row(message: inspection.Edit.PatchFromRow, _: Signature, field: str) -> PatchFromRow:
    if not message.rows:
        raise InvalidRequestError("rows is empty; name the example to patch from", field=f"{field}.rows")
    return PatchFromRow(sources=tuple(message.rows))


CHANGES: dict[str, Callable[[Any, Signature, str], Change]] = {
    "zero": lambda _message, _signature, _field: Zero(),
    "set": lambda message, _, field: Set(value=_array(message.value, f"{field}.value")),
    "add": lambda message, _, field: Add(value=_array(message.value, f"{field}.value")),
    "scale": lambda message, _, field: Scale(factor=_array(message.factor, f"{field}.factor")),
    "mean_ablate": lambda _message, _signature, _field: MeanAblate(),
    "patch_from_row": _patch_from_row,
    "patch_from_inputs": lambda message, signature, field: PatchFromInputs(
        inputs=decode_inputs(message.inputs, signature, within=field)
    ),
}
"""What makes each change, by the name of the field of `Edit` that asks for it.

That is `(message, signature of the network, field) -> change`.
"""
