"""What is told of a model to those who may not look inside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fluoroscope_server.keys import Scope, caller

if TYPE_CHECKING:
    from fluoroscope.v1 import model_pb2

PUBLIC: Final = frozenset(
    {"name", "version", "state", "inputs", "outputs", "buckets", "device", "load_seconds", "labels"}
)
"""The fields of `Model` that a predicting client needs, or that tell nothing of the network. What is added to the
message is private until it is named here."""


def disclosed(model: model_pb2.Model) -> model_pb2.Model:
    """Returns a description as its caller may read it: without the scope `inspect`, with private fields empty."""
    if Scope.INSPECT not in caller().scopes:
        for field, _ in model.ListFields():
            if field.name not in PUBLIC:
                model.ClearField(field.name)  # type: ignore[arg-type]  # its stub lists the names
    return model
