"""What Orbax and TensorStore say when they fail, in one paragraph.

Their errors are bare `Exception` or `ValueError`, kilobytes long, with a whole TensorStore spec and absolute
paths inside. The original goes to the log, at level DEBUG.
"""

from __future__ import annotations

import contextlib
import logging
import re
from typing import TYPE_CHECKING

from fluoroscope_server.errors import CheckpointError, OutOfMemoryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from fluoroscope_server.errors import ModelError

_log = logging.getLogger(__name__)

_MISSING = "data is missing", "The copy is incomplete or was deleted: copy it again, or serve another step"
_DAMAGED = "data is damaged or cut short", "Copy it again, or serve another step"
_FORBIDDEN = "data may not be read by this user", "Give the server read access to the folder"
_TOO_LARGE = "data does not fit", "Free the memory of the host or device, or shard the model over several"
_MALFORMED = "description of the tree is not what Orbax writes", _DAMAGED[1]

_REASONS: tuple[tuple[str, tuple[str, str]], ...] = (
    (r"RESOURCE_EXHAUSTED|MemoryError|[Oo]ut of memory", _TOO_LARGE),
    (r"PERMISSION_DENIED|PermissionError", _FORBIDDEN),
    (r"NOT_FOUND|FileNotFoundError|NotADirectoryError", _MISSING),
    (r"DATA_LOSS|OUT_OF_RANGE|FAILED_PRECONDITION|INVALID_ARGUMENT", _DAMAGED),
    (
        r"JSONDecodeError|UnicodeDecodeError|RecursionError|KeyError|AttributeError|TypeError|SyntaxError",
        _MALFORMED,
    ),
)
"""A pattern for the error's class and text, what it means, and what to do; the first match counts."""


@contextlib.contextmanager
def translated(subject: str, folder: Path, leaves: Iterable[str] = ()) -> Iterator[None]:
    """Turns whatever Orbax raises inside the block into one CheckpointError.

    Args:
        subject: what the message calls the checkpoint.
        folder: the folder that Orbax reads; the message names files relative to it.
        leaves: the paths of the leaves that are read, to find the one at fault.
    """
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:  # noqa: BLE001 - Orbax raises bare Exceptions for every kind of failure
        _log.debug("Orbax failed on %s", subject, exc_info=error)
        raise _error(error, subject, folder, leaves) from None


def _error(error: Exception, subject: str, folder: Path, leaves: Iterable[str]) -> ModelError:
    if not folder.is_dir():
        return CheckpointError(f"{subject} was deleted while it was read; serve another step")
    text = _text(error)
    unknown = f"data cannot be read ({type(error).__name__})", _DAMAGED[1]
    reason, advice = next((known for pattern, known in _REASONS if re.search(pattern, text)), unknown)
    leaf = _leaf_at_fault(text, leaves)
    file = _file_at_fault(text, folder)
    whose = f"the {reason}" if leaf is None else f"the {reason}: leaf {leaf!r}"
    message = f"{subject} cannot be read: {whose}" + (f" (file {file!r})" if file else "") + f". {advice}"
    return OutOfMemoryError(message) if reason == _TOO_LARGE[0] else CheckpointError(message)


def _text(error: Exception) -> str:
    chain: list[str] = []
    each: BaseException | None = error
    while each is not None:
        chain.append(f"{type(each).__name__}: {each}")
        each = each.__cause__
    return "\n".join(reversed(chain))


def _leaf_at_fault(text: str, leaves: Iterable[str]) -> str | None:
    # TensorStore knows a leaf by its keys joined with dots, as a folder or a key that ends with a slash.
    return next((leaf for leaf in leaves if re.search(rf"[/\"']{re.escape(leaf.replace('/', '.'))}/", text)), None)


def _file_at_fault(text: str, folder: Path) -> str | None:
    found: list[str] = re.findall(rf"{re.escape(str(folder))}/([^\"'\\\s]+[^\"'\\\s/])\"", text)
    return found[-1] if found else None
