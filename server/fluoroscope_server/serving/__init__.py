"""Serving: models that are loaded, and the device that they share. Knows no transport."""

from fluoroscope_server.serving.admission import Admission
from fluoroscope_server.serving.answer import Answer
from fluoroscope_server.serving.comparing import ComparedSide, ComparisonAnswer, blaming, compare
from fluoroscope_server.serving.device_queue import DeviceQueue
from fluoroscope_server.serving.limits import Limits
from fluoroscope_server.serving.loading import load
from fluoroscope_server.serving.planned_inspection import PlannedInspection
from fluoroscope_server.serving.repository import Repository
from fluoroscope_server.serving.servable import Servable
from fluoroscope_server.serving.stages import StageClock

__all__ = [
    "Admission",
    "Answer",
    "ComparedSide",
    "ComparisonAnswer",
    "DeviceQueue",
    "Limits",
    "PlannedInspection",
    "Repository",
    "Servable",
    "StageClock",
    "blaming",
    "compare",
    "load",
]
