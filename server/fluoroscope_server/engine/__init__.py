"""The engine: from a network to compiled programs that answer questions about it."""

from fluoroscope_server.engine.capture import Capture, Slice
from fluoroscope_server.engine.comparison import ComparedSite, Comparison, Side, pair, run_comparison
from fluoroscope_server.engine.compile_cache import CompileCache
from fluoroscope_server.engine.cost import Cost
from fluoroscope_server.engine.difference import SiteDifference, Tolerance
from fluoroscope_server.engine.dispatch import compute_where_called
from fluoroscope_server.engine.edit import (
    Add,
    Change,
    Edit,
    MeanAblate,
    PatchFromInputs,
    PatchFromRow,
    Scale,
    Set,
    Zero,
)
from fluoroscope_server.engine.engine import Engine
from fluoroscope_server.engine.finiteness import nonfinite_leaves
from fluoroscope_server.engine.glob import check_names
from fluoroscope_server.engine.gradient import Gradient
from fluoroscope_server.engine.inspection import (
    Execution,
    Inspection,
    check_captures,
    check_outputs,
    check_results,
)
from fluoroscope_server.engine.joining import Common, common, joined, own_results
from fluoroscope_server.engine.plan import Objective
from fluoroscope_server.engine.program import Program, Results
from fluoroscope_server.engine.reductions import (
    Cast,
    Correlation,
    Covariance,
    DeadUnits,
    Full,
    Histogram,
    Mean,
    Norm,
    Part,
    Quantiles,
    Reduction,
    SiteHistogram,
    SiteQuantiles,
    SiteStatistics,
    Statistics,
    Summary,
    TopK,
    ValueSpec,
)
from fluoroscope_server.engine.result import Result, device_is_host, paired, read, wait, wait_for
from fluoroscope_server.engine.result_spec import ResultSpec
from fluoroscope_server.engine.site import Site, SiteKind
from fluoroscope_server.engine.site_table import SiteTable
from fluoroscope_server.engine.target import check_edits

__all__ = [
    "Add",
    "Capture",
    "Cast",
    "Change",
    "Common",
    "ComparedSite",
    "Comparison",
    "CompileCache",
    "Correlation",
    "Cost",
    "Covariance",
    "DeadUnits",
    "Edit",
    "Engine",
    "Execution",
    "Full",
    "Gradient",
    "Histogram",
    "Inspection",
    "Mean",
    "MeanAblate",
    "Norm",
    "Objective",
    "Part",
    "PatchFromInputs",
    "PatchFromRow",
    "Program",
    "Quantiles",
    "Reduction",
    "Result",
    "ResultSpec",
    "Results",
    "Scale",
    "Set",
    "Side",
    "Site",
    "SiteDifference",
    "SiteHistogram",
    "SiteKind",
    "SiteQuantiles",
    "SiteStatistics",
    "SiteTable",
    "Slice",
    "Statistics",
    "Summary",
    "Tolerance",
    "TopK",
    "ValueSpec",
    "Zero",
    "check_captures",
    "check_edits",
    "check_names",
    "check_outputs",
    "check_results",
    "common",
    "compute_where_called",
    "device_is_host",
    "joined",
    "nonfinite_leaves",
    "own_results",
    "pair",
    "paired",
    "read",
    "run_comparison",
    "wait",
    "wait_for",
]
