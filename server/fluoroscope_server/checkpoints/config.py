"""The config that was saved beside the weights."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fluoroscope_server.checkpoints.items import CONFIG, ItemKind, items_of
from fluoroscope_server.checkpoints.place import JSON_FILES
from fluoroscope_server.checkpoints.tree import read_values
from fluoroscope_server.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    from fluoroscope_server.checkpoints.place import Place


def read_config(place: Place) -> dict[str, Any] | None:
    """Returns the item `config` of a checkpoint, or None if it has none.

    Orbax writes it as one JSON document (`JsonSave`); its v1 API writes a plain dict as a tree of strings and
    numbers unless told otherwise. Both are read.

    Raises:
        CheckpointError: if the item is there but is not a JSON object.
    """
    kind = items_of(place.folder).get(CONFIG)
    if kind is ItemKind.JSON:
        config = _read_json(place, place.folder / CONFIG)
    elif kind is ItemKind.ARRAYS:
        config = read_values(place.folder / CONFIG, subject=f"{place}, item {CONFIG!r},")
    else:
        return None
    if not isinstance(config, dict):
        raise CheckpointError(
            f"{place}, item {CONFIG!r}, is not a JSON object; save it with `JsonSave` as "
            '{"family": ..., "config": {...}}'
        )
    _require_unicode(place, config)
    return config


def _require_unicode(place: Place, config: dict[str, Any]) -> None:
    """Refuses half a character, as JSON can escape it: no message to a client can carry it."""
    try:
        json.dumps(config, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise CheckpointError(
            f"{place}, item {CONFIG!r}, holds {error.object[error.start]!r}, half a character; expected Unicode"
        ) from None


def _read_json(place: Place, folder: Path) -> Any:
    file = next(folder / name for name in JSON_FILES if (folder / name).is_file())
    try:
        return json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{place}, item {CONFIG!r}, is not JSON: {error}") from None
