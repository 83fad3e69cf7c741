"""The compile cache: compiled programs in a folder, for the next start."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import jax.monitoring
from jax.experimental.compilation_cache import compilation_cache

from fluoroscope_server.private_folder import private_folder

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_ENTRIES = 4096
"""How many programs the folder may hold: it is looked through whenever one is added."""

CHECKED_ENTRIES = 16
"""How many of the newest entries are read at the start: a server that was killed may have left them half-written."""

_RESULTS = {"/jax/compilation_cache/cache_hits": True, "/jax/compilation_cache/cache_misses": False}
"""The events by which JAX tells that a program came from the folder, or is about to be added."""

_OPTIONS = {
    "jax_persistent_cache_min_compile_time_secs": 0.0,  # by default JAX leaves out what compiles within a second
    "jax_persistent_cache_min_entry_size_bytes": -1,
}


class CompileCache:
    """JAX's persistent compilation cache, while it is open; there is one in a process.

    JAX neither bounds its folder nor replaces an entry that it cannot read. So whenever a program is added, those
    that were not used for longest are removed, and what a killed server left half-written is removed at the start.

    What lies in the folder runs as code of this process: nobody else may write to it.
    """

    def __init__(self, folder: Path, *, most_bytes: int, on_lookup: Callable[[bool], None] = lambda _: None) -> None:
        """Opens the folder, made if it is not there.

        Args:
            folder: where programs are kept, for each kind of machine and each jaxlib in a folder of its own.
            most_bytes: how many bytes they may have together.
            on_lookup: told of each program that was looked for, whether it was there; on the compiling thread.

        Raises:
            SettingsError: the folder cannot be used, or somebody else can write to it.
        """
        self.folder = private_folder(folder)
        self._most_bytes = most_bytes
        self._on_lookup = on_lookup
        place = private_folder(folder / machine())
        _mend(place)
        self._bound()
        self._before = {name: getattr(jax.config, name) for name in (*_OPTIONS, "jax_compilation_cache_dir")}
        for name, value in {**_OPTIONS, "jax_compilation_cache_dir": str(place)}.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()  # JAX looks at its options once
        self._open = True
        jax.monitoring.register_event_listener(self._listen)  # for good: not every JAX that we allow can take it back

    def close(self) -> None:
        """Lets JAX compile as it did before."""
        self._open = False
        for name, value in self._before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()

    def _listen(self, event: str, **_: object) -> None:
        hit = _RESULTS.get(event)
        if hit is None or not self._open:
            return
        if not hit:
            self._bound()
        self._on_lookup(hit)

    def _bound(self) -> None:
        """Removes the entries that were used last so long ago that newer ones fill the folder."""
        size = 0
        for count, (path, status) in enumerate(_entries(self.folder, lambda status: -_last_used(status))):
            size += status.st_size
            if size > self._most_bytes or count >= MOST_ENTRIES:
                path.unlink(missing_ok=True)


def machine() -> str:
    """Returns a name for what a program compiled here can run on, as far as that is the processor and jaxlib.

    JAX' own keys tell accelerators apart, but code for one processor can be fatal on the next.
    """
    features = ""
    with contextlib.suppress(OSError):  # only Linux has it
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        features = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    known = (
        platform.system(),
        platform.machine(),
        platform.processor(),
        importlib.metadata.version("jaxlib"),
        features,
    )
    return hashlib.sha256("\n".join(known).encode()).hexdigest()[:16]


def _entries(folder: Path, order: Callable[[os.stat_result], float]) -> list[tuple[Path, os.stat_result]]:
    found = []
    for path in folder.rglob("*-cache"):
        with contextlib.suppress(FileNotFoundError):  # another server that shares the folder removed it
            found.append((path, path.stat()))
    return sorted(found, key=lambda entry: order(entry[1]))


def _last_used(status: os.stat_result) -> float:
    return max(status.st_atime, status.st_mtime)  # most systems note the first reading, then one each day


def _mend(folder: Path) -> None:
    """Removes those of the newest entries that are not whole."""
    for path, status in _entries(folder, lambda status: -status.st_mtime)[:CHECKED_ENTRIES]:
        with contextlib.suppress(FileNotFoundError):  # another server that shares the folder removed it
            data = path.read_bytes()
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # this was no use of it
            if data[:1] in {b"", b"x"} and not _is_whole(data):  # x begins what zlib wrote; zstandard may be there
                path.unlink()


def _is_whole(data: bytes) -> bool:
    try:
        zlib.decompress(data)
    except zlib.error:
        return False
    return True
