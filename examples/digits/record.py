"""The record of a training: how well it went, and a digest of each file that it wrote."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from recipe import Recipe

FILE = "trained.json"
"""The name of the record. It is written last: where it is missing, the training has not ended."""


class NotWholeError(Exception):
    """A folder does not hold what the recipe makes; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a finished training says of itself."""

    recipe: dict[str, Any]
    """The settings, as `Recipe.as_json` gives them."""

    accuracy: float
    """The share of the test images that the last checkpoint names rightly, from 0 to 1."""

    steps: list[int]
    """The steps of the checkpoints, ascending."""

    files: dict[str, str]
    """The SHA-256 of each file by its path in the folder, with slashes."""

    @classmethod
    def of(cls, folder: Path, recipe: Recipe, *, accuracy: float, steps: list[int]) -> Record:
        """Returns the record of a folder in which a training has just ended."""
        return cls(recipe=recipe.as_json(), accuracy=accuracy, steps=steps, files=_digests(folder))

    def write(self, folder: Path) -> None:
        """Writes the record into its folder."""
        (folder / FILE).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path, recipe: Recipe) -> Record:
        """Returns the record of a folder, if all files are what the training wrote.

        Raises:
            NotWholeError: nothing was trained there, or by another recipe, or a file is not what it was.
        """
        if not (folder / FILE).exists():
            raise NotWholeError("no training has ended there")
        try:
            record = cls(**json.loads((folder / FILE).read_bytes()))
        except (ValueError, TypeError):
            raise NotWholeError(f"{FILE} cannot be read") from None
        if record.recipe != recipe.as_json():
            raise NotWholeError("it was trained by another recipe")
        found = _digests(folder)
        # Files that nobody recorded, the saved digit for one, are no concern.
        changed = [path for path, digest in record.files.items() if found.get(path) != digest]
        if changed:
            raise NotWholeError(f"{changed[0]} is {'damaged' if changed[0] in found else 'missing'}")
        return record


def _digests(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != FILE)
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
