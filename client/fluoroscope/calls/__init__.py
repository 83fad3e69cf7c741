"""Every operation of the service once, for both faces of the client: requests made, answers read.

Nothing here waits, reads or writes. An operation is a generator of exchanges (see `exchange`); what
sends them is the blocking or the asynchronous client.
"""

from fluoroscope.calls.activation import Activation
from fluoroscope.calls.capture import inspect_activations
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
)
from fluoroscope.calls.exchange import Exchange, Steps, StreamCall
from fluoroscope.calls.execution import Execution
from fluoroscope.calls.health import wait_ready
from fluoroscope.calls.inspection import Inspection
from fluoroscope.calls.kind import SiteKind
from fluoroscope.calls.model import Model, ModelState, TensorSpec, get_model, list_models
from fluoroscope.calls.plan import Plan, PlannedResult, plan
from fluoroscope.calls.prediction import predict
from fluoroscope.calls.progress import Program, Progress
from fluoroscope.calls.reduction import Full, Reduction, Slice, Statistics
from fluoroscope.calls.site import Site, list_sites
from fluoroscope.calls.statistics import SiteStatistics
from fluoroscope.calls.status import error_of

__all__ = [
    "Activation",
    "CallCancelledError",
    "ConnectionFailedError",
    "CorruptStreamError",
    "DeadlineExceededError",
    "Exchange",
    "Execution",
    "FluoroscopeError",
    "Full",
    "IncompleteStreamError",
    "Inspection",
    "InvalidRequestError",
    "LimitExceededError",
    "Model",
    "ModelState",
    "NotCapturableError",
    "NotFoundError",
    "PermissionDeniedError",
    "Plan",
    "PlannedResult",
    "Program",
    "Progress",
    "Reduction",
    "ServerError",
    "ServerUnavailableError",
    "Site",
    "SiteKind",
    "SiteStatistics",
    "Slice",
    "Statistics",
    "Steps",
    "StreamCall",
    "TensorSpec",
    "UnauthenticatedError",
    "error_of",
    "get_model",
    "inspect_activations",
    "list_models",
    "list_sites",
    "plan",
    "predict",
    "wait_ready",
]
