"""The content of a folder: every file in it, what marks a change of it, and the digest of its bytes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from fluoroscope_server.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

UNSEALED_FILES = frozenset(("model.toml",))
"""Files right in the folder of a checkpoint that are the operator's own, to be changed at any time."""

WORKERS = min(8, max(1, (os.cpu_count() or 1) // 2))
"""How many files are read at once: hashing lets other threads run, and another model may be serving meanwhile."""

_PIECE = 1 << 20

Progress: TypeAlias = "Callable[[int, int], None]"
"""Told how many bytes were read just now, and how many will be altogether. By one thread at a time, but by several."""

Mark: TypeAlias = tuple[int, int, int, int]
"""Size, times of the last change of content and of status in nanoseconds, and inode: another one, other content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """All that is below a folder, by its path in it, with slashes."""

    files: Mapping[str, Mark]
    """The mark of each file."""

    links: Mapping[str, str]
    """Of each folder whose files have another path already, since a link leads to it, that path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDigest:
    """What one file holds."""

    byte_size: int
    """Its size."""

    sha256: str
    """The SHA-256 of its bytes, 64 hexadecimal digits."""


@contextlib.contextmanager
def explained(subject: str) -> Iterator[None]:
    """Turns what the system says of a file inside the block into one CheckpointError."""
    try:
        yield
    except FileNotFoundError:
        raise CheckpointError(f"{subject} was deleted while it was read; serve another step") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise CheckpointError(f"{subject} cannot be read: {error.filename}: {reason}") from None


def marks_of(folder: Path, *, subject: str) -> Marks:
    """Returns what is below a folder. Reads no file.

    Links are followed, to folders too, each once.

    Raises:
        CheckpointError: the folder cannot be listed, or holds something that is neither file nor folder.
    """
    files: dict[str, Mark] = {}
    links: dict[str, str] = {}
    with explained(subject):
        for path, seen in _walk(folder):
            name = path.relative_to(folder).as_posix()
            if seen is not None:
                links[name] = seen.relative_to(folder).as_posix()
                continue
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise CheckpointError(
                    f"{subject} cannot be read: {name!r} in it is neither a file nor a folder; take it away"
                )
            if name not in UNSEALED_FILES:
                files[name] = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    return Marks(files=dict(sorted(files.items())), links=links)


def digests_of(
    folder: Path, files: Mapping[str, Mark], *, subject: str, progress: Progress | None = None
) -> dict[str, FileDigest]:
    """Reads files, several at once, and returns what each holds by its name.

    Args:
        folder: the folder that the names start from.
        files: those of what `marks_of` returned.
        subject: what messages call it.
        progress: told of each piece.

    Raises:
        CheckpointError: a file cannot be read.
    """
    lock, total = threading.Lock(), sum(size for size, *_ in files.values())

    def read(count: int) -> None:
        if progress is not None:
            with lock:
                progress(count, total)

    with explained(subject), ThreadPoolExecutor(WORKERS, thread_name_prefix="digest") as pool:
        try:
            found = list(pool.map(lambda name: _digest(folder / name, read), files))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # what has not begun would only take time
            raise
    return dict(zip(files, found, strict=True))


def _digest(path: Path, read: Callable[[int], None]) -> FileDigest:
    digest, size, piece = hashlib.sha256(), 0, memoryview(bytearray(_PIECE))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(piece):
            digest.update(piece[:count])
            size += count
            read(count)
    return FileDigest(byte_size=size, sha256=digest.hexdigest())


def _walk(folder: Path) -> Iterator[tuple[Path, Path | None]]:
    """Yields all that is no folder, and with where it was seen before each folder that leads nowhere new."""
    seen = {os.path.realpath(folder): folder}
    waiting = [folder]
    while waiting:
        for child in sorted(waiting.pop().iterdir()):
            if not child.is_dir():
                yield child, None
            elif (before := seen.setdefault(os.path.realpath(child), child)) is not child:
                yield child, before
            else:
                waiting.append(child)
