"""Serving: models that are loaded, and the device that they share. Knows no transport."""

from fluoroscope_server.serving.admission import Admission
from fluoroscope_server.serving.answer import Answer
from fluoroscope_server.serving.comparing import ComparedSide, ComparisonAnswer, blaming, compare
from fluoroscope_server.serving.device_queue import DeviceQueue
from fluoroscope_server.serving.inputs import check_input, check_input_names
from fluoroscope_server.serving.limits import Limits
from fluoroscope_server.serving.loading import load
from fluoroscope_server.serving.model_entry import ModelEntry, Selector, VersionState, VersionStatus
from fluoroscope_server.serving.operations import Operations
from fluoroscope_server.serving.planned_inspection import PlannedInspection
from fluoroscope_server.serving.reports import Reports
from fluoroscope_server.serving.repository import Repository
from fluoroscope_server.serving.servable import Servable
from fluoroscope_server.serving.stages import StageClock
from fluoroscope_server.serving.swap import Swapper
from fluoroscope_server.serving.watcher import Watcher

__all__ = [
    "Admission",
    "Answer",
    "ComparedSide",
    "ComparisonAnswer",
    "DeviceQueue",
    "Limits",
    "ModelEntry",
    "Operations",
    "PlannedInspection",
    "Reports",
    "Repository",
    "Selector",
    "Servable",
    "StageClock",
    "Swapper",
    "VersionState",
    "VersionStatus",
    "Watcher",
    "blaming",
    "check_input",
    "check_input_names",
    "compare",
    "load",
]
