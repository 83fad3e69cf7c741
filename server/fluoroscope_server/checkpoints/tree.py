"""A tree of arrays as Orbax saved it: what is in it, and the reading of some of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import orbax.checkpoint as ocp

from fluoroscope_server.checkpoints.complaint import translated
from fluoroscope_server.checkpoints.leaf import LeafSpec, by_path, leaf_path
from fluoroscope_server.checkpoints.registry import readers
from fluoroscope_server.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTree:
    """The structure of a tree on disk. Holds no array."""

    folder: Path
    """The folder of the item, absolute."""

    subject: str
    """What messages call it: `checkpoint 'runs/digits', step 20, item 'state'`."""

    metadata: Any
    """The tree as Orbax describes it, with an object for each leaf."""

    leaves: Mapping[str, LeafSpec]
    """What each array is, by path; texts and other values that are no arrays are left out."""

    def read(self, wanted: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, jax.Array]:
        """Reads the wanted leaves and nothing else.

        Args:
            wanted: by stored path, the dtype and the sharding to read each leaf into. Its shape is the stored one.

        Returns:
            The arrays by stored path, on their devices.

        Raises:
            CheckpointError: if the data is missing, damaged or larger than the device's memory.
        """

        def ask(keys: Any, _: Any) -> Any:
            return wanted.get(leaf_path(keys), ocp.PLACEHOLDER)

        item = jax.tree_util.tree_map_with_path(ask, self.metadata)
        arguments = ocp.args.PyTreeRestore(item=item, restore_args=jax.tree.map(_restore_args, item))
        with translated(self.subject, self.folder, wanted):
            restored = _orbax().restore(self.folder, args=arguments)
            arrays = {path: leaf for path, leaf in by_path(restored).items() if path in wanted}
            # Copies to the device go on in the background: an error in one belongs here.
            return jax.block_until_ready(arrays)  # type: ignore[no-any-return]  # what it was given


def read_tree(folder: Path, *, subject: str) -> StoredTree:
    """Reads the structure of a tree, without its arrays.

    Args:
        folder: the folder of the item, absolute.
        subject: what messages call it.

    Raises:
        CheckpointError: if the structure cannot be read.
    """
    with translated(subject, folder):
        metadata = _orbax().metadata(folder).tree
        leaves = {
            path: LeafSpec(shape=tuple(leaf.shape), dtype=leaf.dtype)
            for path, leaf in by_path(metadata).items()
            if getattr(leaf, "shape", None) is not None
        }
    return StoredTree(folder=folder, subject=subject, metadata=metadata, leaves=leaves)


def read_values(folder: Path, *, subject: str) -> Any:
    """Reads a tree of plain values: texts and numbers of Python's.

    Args:
        folder: the folder of the item, absolute.
        subject: what messages call it.

    Raises:
        CheckpointError: if it cannot be read, or holds an array.
    """
    metadata = read_tree(folder, subject=subject).metadata
    plain = ocp.metadata.StringMetadata, ocp.metadata.ScalarMetadata
    if not all(isinstance(leaf, plain) for leaf in jax.tree.leaves(metadata)):
        raise CheckpointError(f"{subject} holds arrays; it must be a JSON object")
    with translated(subject, folder):
        return _orbax().restore(folder)


def _orbax() -> ocp.PyTreeCheckpointHandler:
    # Orbax's reader of trees alone: no manager and no checkpointer above it, so nothing that could write or clean up.
    return ocp.PyTreeCheckpointHandler(type_handler_registry=readers())


def _restore_args(leaf: Any) -> ocp.RestoreArgs:
    if leaf is ocp.PLACEHOLDER:
        return ocp.RestoreArgs()
    # Everything is given, so that Orbax never looks for the devices that the checkpoint was saved on.
    return ocp.ArrayRestoreArgs(
        restore_type=jax.Array, dtype=leaf.dtype, sharding=leaf.sharding, global_shape=leaf.shape
    )
