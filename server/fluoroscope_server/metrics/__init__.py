"""Metrics: what this server counts and measures of itself, for Prometheus."""

from fluoroscope_server.metrics.metrics import CODES, SHED, STAGES, MethodMetrics, Metrics

__all__ = ["CODES", "SHED", "STAGES", "MethodMetrics", "Metrics"]
