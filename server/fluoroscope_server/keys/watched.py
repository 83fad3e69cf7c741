"""What some files say, read again when they change."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from fluoroscope_server.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

log = logging.getLogger(__name__)

T = TypeVar("T")
_State: TypeAlias = "tuple[tuple[int, ...], ...]"


class Watched(Generic[T]):
    """The value of files that an operator may replace at any time.

    Files that are broken, or that do not fit together because they are just being replaced, change nothing: the value
    that they had stays, the log says so once, and they are read again until they are good.
    """

    def __init__(self, files: Sequence[Path], read: Callable[[], T]) -> None:
        """Reads the files for the first time, with a function that raises SettingsError if one is not good.

        Raises:
            SettingsError: one is not good, or not there.
        """
        self._files = files
        self._reader = read
        self._complaint = ""
        self._state, self.value = self._read()

    def renew(self) -> bool:
        """Reads the files if one has changed since they were read; returns whether there is a new value."""
        try:
            if self._look() == self._state:
                return False
            self._state, self.value = self._read()
        except SettingsError as error:
            self._state = ()
            if error.message != self._complaint:
                self._complaint = error.message
                log.error("%s. What was read before stays in force.", error.message)  # noqa: TRY400 (says all)
            return False
        self._complaint = ""
        log.info("read again: %s", ", ".join(map(str, self._files)))
        return True

    def _read(self) -> tuple[_State, T]:
        """Returns the state and the value that go together; raises SettingsError."""
        state = self._look()
        value = self._reader()
        if self._look() != state:
            raise SettingsError(f"{', '.join(map(str, self._files))}: changed while being read")
        return state, value

    def _look(self) -> _State:
        """Returns what changes when a file does; raises SettingsError."""
        states = []
        for path in self._files:
            try:
                status = path.stat()
            except OSError as error:
                raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
            states.append((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
        return tuple(states)
