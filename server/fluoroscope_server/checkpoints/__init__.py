"""Orbax in: finds out what a checkpoint folder holds, and reads the weights of a network from it."""

from __future__ import annotations

from fluoroscope_server.checkpoints.checkpoint import Checkpoint, open_checkpoint
from fluoroscope_server.checkpoints.layout import steps
from fluoroscope_server.checkpoints.leaf import LeafSpec

__all__ = ["Checkpoint", "LeafSpec", "open_checkpoint", "steps"]
