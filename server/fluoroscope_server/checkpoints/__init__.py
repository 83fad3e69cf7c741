"""Orbax in: finds out what a checkpoint folder holds, and reads the weights of a network from it."""

from __future__ import annotations

from fluoroscope_server.checkpoints.checkpoint import Checkpoint, open_checkpoint
from fluoroscope_server.checkpoints.layout import may_be_folder, step_folders, steps, uncommitted
from fluoroscope_server.checkpoints.leaf import LeafSpec
from fluoroscope_server.checkpoints.manifest import Manifest, manifest_path, stray_manifests
from fluoroscope_server.checkpoints.sealing import seal, unsealed_steps
from fluoroscope_server.checkpoints.stamp import Stamp, content_stamp, file_stamp, save_stamp
from fluoroscope_server.checkpoints.verifying import Verified, check_seal, verify

__all__ = [
    "Checkpoint",
    "LeafSpec",
    "Manifest",
    "Stamp",
    "Verified",
    "check_seal",
    "content_stamp",
    "file_stamp",
    "manifest_path",
    "may_be_folder",
    "open_checkpoint",
    "save_stamp",
    "seal",
    "step_folders",
    "steps",
    "stray_manifests",
    "uncommitted",
    "unsealed_steps",
    "verify",
]
