"""The inputs that edits bring along, to patch values from."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fluoroscope_server.engine import PatchFromInputs
from fluoroscope_server.errors import InvalidRequestError, counted
from fluoroscope_server.serving.inputs import check_inputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fluoroscope_server.engine import Edit
    from fluoroscope_server.signature import Signature


def check_second_inputs(edits: Sequence[Edit], signature: Signature, *, rows: int) -> None:
    """Checks the inputs of edits as those of the request are, of which there are `rows`.

    Raises:
        InvalidRequestError: they do not fit the signature, or are neither one example nor as many as the request has.
    """
    for number, edit in enumerate(edits):
        if not isinstance(edit.change, PatchFromInputs):
            continue
        field = f"edits[{number}].patch_from_inputs"
        try:
            count = check_inputs(edit.change.inputs, signature)
        except InvalidRequestError as error:
            raise InvalidRequestError(error.message, field=f"{field}.{error.field}", reason=error.reason) from None
        if count not in {1, rows}:
            raise InvalidRequestError(
                f"the inputs to patch from have {counted(count, 'row')}, and those of the request {rows}: "
                "send as many, or one for all",
                field=f"{field}.inputs",
            )


def without_second_inputs(edits: Sequence[Edit]) -> list[Edit]:
    """Returns edits without the inputs that they bring along, for what will not run."""
    return [
        replace(edit, change=PatchFromInputs(inputs={})) if isinstance(edit.change, PatchFromInputs) else edit
        for edit in edits
    ]
