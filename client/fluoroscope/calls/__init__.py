"""Every operation of the service once, for both faces of the client: requests made, answers read.

Nothing here waits, reads or writes. An operation is a generator of exchanges (see `exchange`); what
sends them is the blocking or the asynchronous client.
"""

from fluoroscope.calls.activation import Activation
from fluoroscope.calls.capture import inspect_activations
from fluoroscope.calls.compare import compare
from fluoroscope.calls.comparison import Comparison, SiteComparison
from fluoroscope.calls.covariance import SiteCorrelation, SiteCovariance
from fluoroscope.calls.deployment import load_model, set_label, unload_model
from fluoroscope.calls.edit import (
    Add,
    Edit,
    MeanAblate,
    PatchFromInputs,
    PatchFromRow,
    Scale,
    Set,
    Zero,
)
from fluoroscope.calls.errors import (
    CallCancelledError,
    ConnectionFailedError,
    CorruptStreamError,
    DeadlineExceededError,
    FluoroscopeError,
    IncompleteStreamError,
    InvalidRequestError,
    LimitExceededError,
    NotCapturableError,
    NotFoundError,
    PermissionDeniedError,
    ServerError,
    ServerUnavailableError,
    UnauthenticatedError,
    WrongStateError,
)
from fluoroscope.calls.exchange import Exchange, Steps, StreamCall
from fluoroscope.calls.execution import Execution
from fluoroscope.calls.gradient import Gradient
from fluoroscope.calls.health import Wait, wait_ready
from fluoroscope.calls.histogram import SiteHistogram
from fluoroscope.calls.inspection import Inspection
from fluoroscope.calls.kind import SiteKind
from fluoroscope.calls.model import Model, TensorSpec, get_model, list_models
from fluoroscope.calls.parameters import inspect_parameters
from fluoroscope.calls.plan import Plan, PlannedResult, plan
from fluoroscope.calls.prediction import predict
from fluoroscope.calls.progress import Program, Progress
from fluoroscope.calls.quantiles import SiteQuantiles
from fluoroscope.calls.reduction import (
    Correlation,
    Covariance,
    DeadUnits,
    Full,
    Histogram,
    Mean,
    Norm,
    Quantiles,
    Reduction,
    Statistics,
    TopK,
)
from fluoroscope.calls.site import Site, list_sites
from fluoroscope.calls.slice import Slice
from fluoroscope.calls.statistics import SiteStatistics
from fluoroscope.calls.status import error_of, pushback_of
from fluoroscope.calls.survey import Survey
from fluoroscope.calls.units import SiteDeadUnits, TopElements
from fluoroscope.calls.version import ModelState, ModelVersion
from fluoroscope.wire import Arrived

__all__ = [
    "Activation",
    "Add",
    "Arrived",
    "CallCancelledError",
    "Comparison",
    "ConnectionFailedError",
    "Correlation",
    "CorruptStreamError",
    "Covariance",
    "DeadUnits",
    "DeadlineExceededError",
    "Edit",
    "Exchange",
    "Execution",
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
    "Steps",
    "StreamCall",
    "Survey",
    "TensorSpec",
    "TopElements",
    "TopK",
    "UnauthenticatedError",
    "Wait",
    "WrongStateError",
    "Zero",
    "compare",
    "error_of",
    "get_model",
    "inspect_activations",
    "inspect_parameters",
    "list_models",
    "list_sites",
    "load_model",
    "plan",
    "predict",
    "pushback_of",
    "set_label",
    "unload_model",
    "wait_ready",
]
