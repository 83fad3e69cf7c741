"""A checkpoint that was opened: its config and its leaves are known, its arrays are not read yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax

from fluoroscope_server.checkpoints.config import read_config
from fluoroscope_server.checkpoints.items import choose_item
from fluoroscope_server.checkpoints.layout import locate
from fluoroscope_server.checkpoints.leaf import LeafSpec, by_path, is_key
from fluoroscope_server.checkpoints.matching import best_match
from fluoroscope_server.checkpoints.mismatch import mismatch
from fluoroscope_server.checkpoints.tree import read_tree
from fluoroscope_server.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fluoroscope_server.checkpoints.matching import Match
    from fluoroscope_server.checkpoints.tree import StoredTree


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint:
    """One committed checkpoint, opened for reading."""

    path: Path
    """The folder as the operator gave it."""

    step: int
    """The step; 0 when the folder is not one of a series."""

    item: str | None
    """The item that holds the weights, or None when the checkpoint is one tree without items."""

    config: dict[str, Any] | None
    """The JSON item `config`, or None when there is none."""

    prefix: str | None
    """The path of the weights inside the tree that the operator gave, or None to look for it."""

    tree: StoredTree
    """The tree that holds the weights."""

    @property
    def leaves(self) -> Mapping[str, LeafSpec]:
        """Returns the shape and dtype of every stored array by path, those that are no weights included."""
        return self.tree.leaves

    def match(self, expected: Any) -> Match:
        """Finds the network's variables among the stored arrays, as `restore` does; reads none of them.

        Raises:
            MismatchError: a leaf is missing, extra, or of another shape or kind; all of them are listed.
        """
        specs = _specs(expected)
        match = best_match(self.leaves, specs, prefix=self.prefix)
        if not match.is_whole:
            raise mismatch(self.tree.subject, match, self.leaves, specs)
        return match

    def restore(self, expected: Any) -> Any:
        """Reads the network's variables, and nothing else, onto their devices.

        The variables are looked for where training scripts put them (the tree itself, `params`, a TrainState,
        NNX variables with their trailing `value`, ...), or under `prefix`. The optimizer's state and other
        collections that the network does not have are not read.

        Args:
            expected: a pytree whose leaves have a shape, a dtype and, when wanted, a sharding; a leaf without
                one goes to the first device. A float is converted to the expected float type.

        Returns:
            A pytree of the structure of `expected` with arrays as leaves.

        Raises:
            MismatchError: a leaf is missing, extra, or of another shape or kind; all of them are listed.
            CheckpointError: the data is missing or damaged. Damage that leaves the encoding intact is noticed by
                `verify` only.
            OutOfMemoryError: the data does not fit into memory.
        """
        leaves, specs = by_path(expected), _specs(expected)
        match = self.match(expected)
        wanted = {match.sources[path]: _target(self.leaves[match.sources[path]], leaf) for path, leaf in leaves.items()}
        arrays = self.tree.read(wanted) if wanted else {}
        restored = [self._checked(arrays[match.sources[path]], path, specs[path]) for path in leaves]
        return jax.tree.unflatten(jax.tree.structure(expected), restored)

    def _checked(self, array: jax.Array, path: str, spec: LeafSpec) -> jax.Array:
        # The arrays may have been replaced since their metadata was read, and what was saved as plain numbers never
        # becomes a typed PRNG key.
        found = LeafSpec(shape=array.shape, dtype=array.dtype)
        if found != spec:
            raise CheckpointError(
                f"{self.tree.subject} cannot be used: leaf {path!r} was read as {found}, but {spec} is expected. "
                "Was the checkpoint replaced meanwhile? Load it again"
            )
        return array


def open_checkpoint(
    path: Path, *, step: int | None = None, item: str | None = None, prefix: str | None = None
) -> Checkpoint:
    """Finds out what a folder holds, and reads everything of a checkpoint but its arrays.

    Writes nothing, and cleans nothing up.

    Args:
        path: a folder of steps (the newest committed one is opened unless `step` says otherwise), or one checkpoint.
        step: the step to open.
        item: the item that holds the weights; what the JSON item `config` says when None, and else found.
        prefix: the path of the weights inside the item's tree, with slashes; likewise.

    Raises:
        CheckpointError: if there is no such checkpoint, or its structure cannot be read.
    """
    place = locate(path, step)
    try:
        config = read_config(place)
        folder = choose_item(place, item or _said(config, "item"))
    except OSError as error:
        gone = isinstance(error, FileNotFoundError)
        reason = "it was deleted meanwhile" if gone else error.strerror or type(error).__name__
        raise CheckpointError(f"{place} cannot be read: {reason}") from None
    name = None if folder == place.folder else folder.name
    subject = f"{place}, item {name!r}," if name else str(place)
    tree = read_tree(folder, subject=subject)
    return Checkpoint(
        path=path, step=place.step, item=name, config=config, prefix=prefix or _said(config, "prefix"), tree=tree
    )


def _specs(tree: Any) -> dict[str, LeafSpec]:
    return {path: LeafSpec(shape=tuple(leaf.shape), dtype=leaf.dtype) for path, leaf in by_path(tree).items()}


def _said(config: dict[str, Any] | None, key: str) -> str | None:
    value = (config or {}).get(key)
    return value if isinstance(value, str) else None


def _target(stored: LeafSpec, leaf: Any) -> jax.ShapeDtypeStruct:
    sharding = getattr(leaf, "sharding", None) or jax.sharding.SingleDeviceSharding(jax.devices()[0])
    # A typed key is stored as its data, of another shape and dtype than its own.
    dtype = stored.dtype if is_key(LeafSpec(shape=(), dtype=leaf.dtype)) else leaf.dtype
    return jax.ShapeDtypeStruct(stored.shape, dtype, sharding=sharding)
