"""Reductions: what is done on the device to a captured value before it leaves.

To add one: a file beside this one with a class like `Full` or `Histogram`, the message in
inspection.proto, a row in the table of `rpc.reduction`, and a class in the client's `calls.reduction`.
"""

from fluoroscope_server.engine.reductions.cast import TYPES, Cast
from fluoroscope_server.engine.reductions.covariance import Correlation, Covariance
from fluoroscope_server.engine.reductions.dead_units import DeadUnits
from fluoroscope_server.engine.reductions.full import Full
from fluoroscope_server.engine.reductions.histogram import MOST_BINS, Histogram, SiteHistogram
from fluoroscope_server.engine.reductions.mean import Mean
from fluoroscope_server.engine.reductions.norm import ORDERS, Norm
from fluoroscope_server.engine.reductions.quantiles import MOST_QUANTILES, Quantiles, SiteQuantiles
from fluoroscope_server.engine.reductions.reduction import Part, Reduction, ValueSpec
from fluoroscope_server.engine.reductions.statistics import SiteStatistics, Statistics
from fluoroscope_server.engine.reductions.top_k import TopK

Summary = SiteStatistics | SiteHistogram | SiteQuantiles
"""What a reduction gives that is a few numbers."""

__all__ = [
    "MOST_BINS",
    "MOST_QUANTILES",
    "ORDERS",
    "TYPES",
    "Cast",
    "Correlation",
    "Covariance",
    "DeadUnits",
    "Full",
    "Histogram",
    "Mean",
    "Norm",
    "Part",
    "Quantiles",
    "Reduction",
    "SiteHistogram",
    "SiteQuantiles",
    "SiteStatistics",
    "Statistics",
    "Summary",
    "TopK",
    "ValueSpec",
]
