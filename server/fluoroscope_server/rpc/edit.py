"""Edits, from messages: each change in one row of one table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fluoroscope.wire import WireError, decode_tensor
from fluoroscope_server.engine import Add, Edit, MeanAblate, PatchFromInputs, PatchFromRow, Scale, Set, Zero
from fluoroscope_server.errors import InvalidRequestError
from fluoroscope_server.rpc.decoding import decode_inputs, decode_kinds, decode_slice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy as np

    from fluoroscope.v1 import inspection_pb2 as inspection
    from fluoroscope.v1.tensor_pb2 import Tensor
    from fluoroscope_server.engine import Change


def decode_edits(messages: Iterable[inspection.Edit]) -> list[Edit]:
    """Returns the edits of an inspection; raises InvalidRequestError if one cannot be right."""
    return [_edit(message, f"edits[{index}]") for index, message in enumerate(messages)]


def _edit(message: inspection.Edit, field: str) -> Edit:
    name = message.WhichOneof("change")
    if name is None:
        raise InvalidRequestError(f"no known change is set; the known are {', '.join(CHANGES)}", field=field)
    return Edit(
        sites=tuple(message.sites),
        kinds=decode_kinds(message.kinds, field=f"{field}.kinds"),
        change=CHANGES[name](getattr(message, name), f"{field}.{name}"),
        rows=tuple(message.rows),
        slices=tuple(map(decode_slice, message.slices)),
        units=tuple(message.units),
    )


def _array(tensor: Tensor, field: str) -> np.ndarray:
    try:
        return decode_tensor(tensor)
    except WireError as error:
        raise InvalidRequestError(str(error), field=field, reason="BROKEN_TENSOR") from error


def _patch_from_row(message: inspection.Edit.PatchFromRow, field: str) -> PatchFromRow:
    if not message.rows:
        raise InvalidRequestError("rows is empty; name the example to patch from", field=f"{field}.rows")
    return PatchFromRow(sources=tuple(message.rows))


CHANGES: dict[str, Callable[[Any, str], Change]] = {
    "zero": lambda message, field: Zero(),  # noqa: ARG005  # no parameters, here and below
    "set": lambda message, field: Set(value=_array(message.value, f"{field}.value")),
    "add": lambda message, field: Add(value=_array(message.value, f"{field}.value")),
    "scale": lambda message, field: Scale(factor=_array(message.factor, f"{field}.factor")),
    "mean_ablate": lambda message, field: MeanAblate(),  # noqa: ARG005
    "patch_from_row": _patch_from_row,
    "patch_from_inputs": lambda message, field: PatchFromInputs(inputs=decode_inputs(message.inputs, within=field)),
}
"""What makes each change, by the name of the field of `Edit` that asks for it: `(message, field) -> change`."""
