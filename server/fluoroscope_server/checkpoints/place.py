"""One checkpoint on disk, and the names that Orbax gives to its files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

TREE_METADATA = "_METADATA"
"""The file in which Orbax writes the structure of a tree."""

STEP_METADATA = "_CHECKPOINT_METADATA"
"""The file that Orbax writes at the root of a checkpoint."""

V1_MARKER = "orbax.checkpoint"
"""The file that Orbax's v1 API writes at the root of a checkpoint."""

COMMITTED = "commit_success.txt"
"""The file that some versions of Orbax write when a save has ended."""

TEMPORARY = ".orbax-checkpoint-tmp"
"""What the name of a folder holds until its save has ended."""

JSON_FILES = ("metadata", "data.json")
"""The files of a JSON item: in Orbax's first layout, and in v1."""

ARRAY_FILES = ("manifest.ocdbt", "_sharding", "array_metadatas", "ocdbt.process_0")
"""What lies beside the arrays of a tree; its first part is there in every layout but the oldest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One checkpoint on disk."""

    path: Path
    """The folder as the operator gave it: the only path that messages name."""

    folder: Path
    """The folder of the checkpoint itself, absolute: `path`, or a step inside it."""

    step: int
    """The step; 0 when the folder is not one of a series."""

    is_series: bool
    """Whether `path` holds a series of steps."""

    def __str__(self) -> str:
        """Returns the place for people: `checkpoint 'runs/digits', step 20`."""
        return f"checkpoint '{self.path}'" + (f", step {self.step}" if self.is_series else "")
