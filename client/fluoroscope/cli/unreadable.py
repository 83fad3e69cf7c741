"""Files that cannot be read: what to say of them."""

from __future__ import annotations

import difflib
from pathlib import Path

import click


def unreadable(path: str | Path, error: OSError) -> click.UsageError:
    """Returns the error for a file that the system does not open; if it is not there, with names that are like it."""
    problem = f"{path} cannot be read: {error.strerror or error}"
    if not isinstance(error, FileNotFoundError):
        return click.UsageError(f"{problem}.")
    folder = Path(path).parent
    try:
        names = sorted(each.name for each in folder.iterdir() if each.is_file())
    except OSError:
        return click.UsageError(f"{problem}; {folder} is no folder that can be read, either.")
    name, suffix = Path(path).name, Path(path).suffix
    near = difflib.get_close_matches(name, names) or [each for each in names if each.endswith(suffix)][:3]
    if near:
        return click.UsageError(f"{problem}; nearest in {folder.resolve()}: {', '.join(near)}.")
    return click.UsageError(f"{problem}; {folder.resolve()} has no file{f' *{suffix}' if suffix else ''}.")
