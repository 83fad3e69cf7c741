"""The client of fluoroscope: predictions of Flax networks, and the values inside them, over gRPC.

    import fluoroscope

    with fluoroscope.Client("localhost:8500") as client:
        client.predict("digits", {"image": x})["logits"]
        client.inspect("digits", {"image": x}, sites="Dense_*")["Dense_0"].array

Arrays are NumPy's; there is no JAX on this side.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fluoroscope.calls import (
        Activation,
        Add,
        Arrived,
        CallCancelledError,
        Comparison,
        ConnectionFailedError,
        Correlation,
        CorruptStreamError,
        Covariance,
        DeadlineExceededError,
        DeadUnits,
        Edit,
        FluoroscopeError,
        Full,
        Gradient,
        Histogram,
        IncompleteStreamError,
        Inspection,
        InvalidRequestError,
        LimitExceededError,
        Mean,
        MeanAblate,
        Model,
        ModelState,
        ModelVersion,
        Norm,
        NotCapturableError,
        NotFoundError,
        PatchFromInputs,
        PatchFromRow,
        PermissionDeniedError,
        Plan,
        PlannedResult,
        Program,
        Progress,
        Quantiles,
        Reduction,
        Scale,
        ServerError,
        ServerUnavailableError,
        Set,
        Site,
        SiteComparison,
        SiteCorrelation,
        SiteCovariance,
        SiteDeadUnits,
        SiteHistogram,
        SiteKind,
        SiteQuantiles,
        SiteStatistics,
        Slice,
        Statistics,
        Survey,
        TensorSpec,
        TopElements,
        TopK,
        UnauthenticatedError,
        WrongStateError,
        Zero,
    )
    from fluoroscope.client import AsyncClient, Client

    __version__: str
    """The version of the installed distribution."""

__all__ = [
    "Activation",
    "Add",
    "Arrived",
    "AsyncClient",
    "CallCancelledError",
    "Client",
    "Comparison",
    "ConnectionFailedError",
    "Correlation",
    "CorruptStreamError",
    "Covariance",
    "DeadUnits",
    "DeadlineExceededError",
    "Edit",
    "FluoroscopeError",
    "Full",
    "Gradient",
    "Histogram",
    "IncompleteStreamError",
    "Inspection",
    "InvalidRequestError",
    "LimitExceededError",
    "Mean",
    "MeanAblate",
    "Model",
    "ModelState",
    "ModelVersion",
    "Norm",
    "NotCapturableError",
    "NotFoundError",
    "PatchFromInputs",
    "PatchFromRow",
    "PermissionDeniedError",
    "Plan",
    "PlannedResult",
    "Program",
    "Progress",
    "Quantiles",
    "Reduction",
    "Scale",
    "ServerError",
    "ServerUnavailableError",
    "Set",
    "Site",
    "SiteComparison",
    "SiteCorrelation",
    "SiteCovariance",
    "SiteDeadUnits",
    "SiteHistogram",
    "SiteKind",
    "SiteQuantiles",
    "SiteStatistics",
    "Slice",
    "Statistics",
    "Survey",
    "TensorSpec",
    "TopElements",
    "TopK",
    "UnauthenticatedError",
    "WrongStateError",
    "Zero",
    "__version__",
]


_CLIENTS = {"Client", "AsyncClient"}

if not TYPE_CHECKING:  # with a module's __getattr__ in sight, a type checker takes any misspelt name

    def __getattr__(name: str) -> object:
        """Imports a name when it is first asked for: who wants `fluoroscope.wire` alone pays for no gRPC."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if name == "__version__":
            value = import_module("importlib.metadata").version("fluoroscope")
        else:
            home = "fluoroscope.client" if name in _CLIENTS else "fluoroscope.calls"
            value = getattr(import_module(home), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted(__all__)
