"""A folder that nobody but this user can write to."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from fluoroscope_server.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path


def private_folder(path: Path) -> Path:
    """Returns the folder, made if it was not there, for this user alone.

    Raises:
        SettingsError: it cannot be made or written to, somebody else owns it, or others can write to it.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.stat()
    except OSError as error:
        raise SettingsError(f"{path} cannot be used: {error.strerror}") from error
    if status.st_uid != os.geteuid():
        raise SettingsError(
            f"{path} belongs to user {status.st_uid}, and this server runs as user {os.geteuid()}: what lies in it "
            "runs as code of this server, so name a folder of its own user"
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise SettingsError(
            f"others can write to {path}, whose mode is {stat.S_IMODE(status.st_mode):04o}: what lies in it runs as "
            f"code of this server; once you trust what is there now, take their permission away: chmod go-w {path}"
        )
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise SettingsError(f"{path} cannot be used: this server may not write to it")
    return path
