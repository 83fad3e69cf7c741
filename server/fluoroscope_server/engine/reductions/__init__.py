"""Reductions: what is done on the device to a captured value before it leaves.

To add one: a file beside this one with a class like `Full` or `Statistics`, the message in
inspection.proto, and a row in each table of `rpc.reduction` and the client's `calls`.
"""

from fluoroscope_server.engine.reductions.full import Full
from fluoroscope_server.engine.reductions.reduction import Part, Reduction, ValueSpec
from fluoroscope_server.engine.reductions.statistics import SiteStatistics, Statistics

__all__ = ["Full", "Part", "Reduction", "SiteStatistics", "Statistics", "ValueSpec"]
