"""How paths are said: as the reader would type them."""

from __future__ import annotations

import shlex
from pathlib import Path


def near(path: Path) -> Path:
    """Returns a path relative to the current folder if it is below it, and in full otherwise."""
    here = Path.cwd()
    path = path.absolute()
    return path.relative_to(here) if path.is_relative_to(here) else path


def typed(path: Path) -> str:
    """Returns the near path as one would type it into a shell."""
    return shlex.quote(str(near(path)))
