"""Orbax in: finds out what a checkpoint folder holds, and reads the weights of a network from it."""

from __future__ import annotations

from fluoroscope_server.checkpoints.checkpoint import Checkpoint, open_checkpoint
from fluoroscope_server.checkpoints.layout import step_folders, steps
from fluoroscope_server.checkpoints.leaf import LeafSpec
from fluoroscope_server.checkpoints.stamp import Stamp, content_stamp, file_stamp, save_stamp

__all__ = [
    "Checkpoint",
    "LeafSpec",
    "Stamp",
    "content_stamp",
    "file_stamp",
    "open_checkpoint",
    "save_stamp",
    "step_folders",
    "steps",
]
