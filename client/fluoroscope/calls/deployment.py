"""The operations that change which versions of a model serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fluoroscope.calls.answer import read_answer
from fluoroscope.calls.argument import building
from fluoroscope.calls.exchange import Exchange
from fluoroscope.calls.model import Model
from fluoroscope.calls.selector import version_number
from fluoroscope.v1 import model_pb2

if TYPE_CHECKING:
    from fluoroscope.calls.exchange import Steps


def load_model(name: str, *, version: int | None = None, timeout: float | None = None) -> Steps[Model]:
    """Loads a version of a model, and returns when it serves. The server goes on with it if the time is up.

    Args:
        name: The name of the model.
        version: The checkpoint step, which then serves until it is unloaded, whatever newer ones come. None means what
            the model's own policy wants, the newest unless it says otherwise; what was refused is tried anew.
        timeout: How many seconds it may take. None means what the client was made with.

    Raises:
        NotFoundError: No such model, or no such committed step; the message lists those there are.
        WrongStateError: The step is refused; the message says why, and what served goes on serving. If there is no
            room for it, `reason` is OUT_OF_MEMORY.
    """
    number = None if version is None else version_number(version)
    with building():
        request = model_pb2.LoadModelRequest(model=name, version=number)
    answer = yield Exchange(
        method="/fluoroscope.v1.ModelService/LoadModel",
        request=request.SerializeToString(),
        timeout=timeout,
        patience=600.0,
    )
    return Model.from_wire(read_answer(model_pb2.LoadModelResponse, answer).model)


def unload_model(
    name: str, *, version: int | None = None, force: bool = False, timeout: float | None = None
) -> Steps[Model]:
    """Unloads a version of a model, and returns when the requests under way have ended and its memory is free.

    It stays away until `load_model` asks for it, or the server starts anew.

    Args:
        name: The name of the model.
        version: The version. None means all of them.
        force: Unload it even if a label names it; the label goes, too.
        timeout: How many seconds it may take. None means what the client was made with.

    Raises:
        NotFoundError: No such model, or the version is not loaded.
        WrongStateError: A label names it.
    """
    number = None if version is None else version_number(version)
    with building():
        request = model_pb2.UnloadModelRequest(model=name, version=number, force=force)
    answer = yield Exchange(
        method="/fluoroscope.v1.ModelService/UnloadModel",
        request=request.SerializeToString(),
        timeout=timeout,
        patience=600.0,
    )
    return Model.from_wire(read_answer(model_pb2.UnloadModelResponse, answer).model)


def set_label(name: str, label: str, version: int | None, *, timeout: float | None = None) -> Steps[Model]:
    """Lets a label point to a version from now on, or to nothing.

    Args:
        name: The name of the model.
        label: The label: letters, digits, ".", "_" and "-", 200 at most.
        version: The version, which must be loaded. None takes the label away.
        timeout: How many seconds it may take. None means what the client was made with.

    Raises:
        NotFoundError: No such model.
        WrongStateError: The version is not loaded; the message lists those that are.
        InvalidRequestError: That is no name for a label.
    """
    number = None if version is None else version_number(version)
    with building():
        request = model_pb2.SetLabelRequest(model=name, label=label, version=number)
    answer = yield Exchange(
        method="/fluoroscope.v1.ModelService/SetLabel",
        request=request.SerializeToString(),
        timeout=timeout,
    )
    return Model.from_wire(read_answer(model_pb2.SetLabelResponse, answer).model)
