"""Which method needs which scope: the one table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fluoroscope_server.keys import Scope

if TYPE_CHECKING:
    from collections.abc import Mapping

OPEN: Final[frozenset[Scope]] = frozenset()
"""Needs no token."""

ANY: Final = frozenset(Scope)
"""Needs a token, whatever it is for."""

PREDICT: Final = frozenset({Scope.PREDICT})
INSPECT: Final = frozenset({Scope.INSPECT})
ADMIN: Final = frozenset({Scope.ADMIN})

_SERVICES: Final[Mapping[str, Mapping[str, frozenset[Scope]]]] = {
    "fluoroscope.v1.InferenceService": {"Predict": PREDICT},
    "fluoroscope.v1.InspectionService": {
        "ListSites": INSPECT,
        "PlanInspection": INSPECT,
        "InspectActivations": INSPECT,
        "InspectParameters": INSPECT,
        "CompareActivations": INSPECT,
    },
    "fluoroscope.v1.ModelService": {
        "ListModels": ANY,  # what is inside is left out for those who may not inspect: see `disclosure`
        "GetModel": ANY,
        "LoadModel": ADMIN,
        "UnloadModel": ADMIN,
        "SetLabel": ADMIN,
    },
    # Who asks whether it is healthy is a load balancer or a kubelet, which have no tokens.
    "grpc.health.v1.Health": {"Check": OPEN, "Watch": OPEN},
    # It tells nothing of the models, but to whom it is nobody's business nothing need be told.
    "grpc.reflection.v1alpha.ServerReflection": {"ServerReflectionInfo": ANY},
    "inference.GRPCInferenceService": {
        "ServerLive": OPEN,
        "ServerReady": OPEN,
        "ServerMetadata": ANY,
        "ModelReady": ANY,
        "ModelMetadata": ANY,
        "ModelConfig": ANY,
        "ModelStatistics": ANY,
        "RepositoryIndex": ANY,
        "ModelInfer": PREDICT,  # and the scope `inspect` if it asks for sites: `Servable.inspect` sees to that
        "ModelStreamInfer": PREDICT,
        "RepositoryModelLoad": ADMIN,
        "RepositoryModelUnload": ADMIN,
    },
}

ACCESS: Final[Mapping[str, frozenset[Scope]]] = {
    f"/{service}/{method}": scopes for service, methods in _SERVICES.items() for method, scopes in methods.items()
}
"""The scopes of which a caller must have one, by the path of the method. Nobody may call a method without a row."""
