"""Serving: models that are loaded, and the device that they share. Knows no transport."""

from fluoroscope_server.serving.answer import Answer
from fluoroscope_server.serving.comparing import ComparedSide, ComparisonAnswer, blaming, compare
from fluoroscope_server.serving.device_queue import DeviceQueue
from fluoroscope_server.serving.loading import load
from fluoroscope_server.serving.planned_inspection import PlannedInspection
from fluoroscope_server.serving.repository import Repository
from fluoroscope_server.serving.servable import Servable
from fluoroscope_server.serving.stages import StageClock

__all__ = [
    "Answer",
    "ComparedSide",
    "ComparisonAnswer",
    "DeviceQueue",
    "PlannedInspection",
    "Repository",
    "Servable",
    "StageClock",
    "blaming",
    "compare",
    "load",
]
