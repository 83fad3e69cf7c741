"""Which version of a model a request means."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from fluoroscope.calls.argument import building, whole
from fluoroscope.calls.errors import InvalidRequestError

if TYPE_CHECKING:
    from fluoroscope.v1 import inference_pb2, inspection_pb2, model_pb2

    Request: TypeAlias = (
        inference_pb2.PredictRequest
        | inspection_pb2.CompareActivationsRequest.Side
        | inspection_pb2.InspectActivationsRequest
        | inspection_pb2.InspectParametersRequest
        | inspection_pb2.ListSitesRequest
        | model_pb2.GetModelRequest
    )


def fill_version(request: Request, version: int | None, label: str | None) -> None:
    """Puts a version, or a label that names one, into a request; with neither it means the one that serves.

    Raises:
        InvalidRequestError: Both are given, or one is none.
    """
    if version is not None and label is not None:
        raise InvalidRequestError(f"version is {version} and label is {label!r}; expected one of them", field="label")
    if version is not None:
        request.version = version_number(version)
    if label is not None:
        if not isinstance(label, str):
            raise InvalidRequestError(f"label is {label!r}; expected the name of a label", field="label")
        with building(f"label {label!r}", field="label"):
            request.label = label


def version_number(version: object) -> int:
    """Returns the number of a version; raises InvalidRequestError if it can be none."""
    if isinstance(version, str):
        raise InvalidRequestError(
            f"version is {version!r}; expected the number of a checkpoint step. A label goes into label=",
            field="version",
        )
    return whole(version, "version", least=0)
