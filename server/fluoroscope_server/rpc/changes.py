"""What may change models, if anything may."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fluoroscope_server.errors import WrongStateError
from fluoroscope_server.keys import caller

if TYPE_CHECKING:
    from fluoroscope_server.serving import Operations


def changes(operations: Operations | None, model: str) -> Operations:
    """Returns what loads and unloads a model.

    Raises:
        PermissionDeniedError: it is none of the caller's.
        WrongStateError: nothing does.
    """
    if model:
        caller().permit(model)
    if operations is None:
        raise WrongStateError("this server neither loads nor unloads models while it runs", reason="NO_OPERATIONS")
    return operations
