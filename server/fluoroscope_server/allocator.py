"""The allocator of the C library, told to keep what it has."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_SETTINGS = {_M_MMAP_THRESHOLD: 1 << 30, _M_TRIM_THRESHOLD: (1 << 31) - 1, _M_ARENA_MAX: 1}


def keep_large_buffers() -> bool:
    """Lets glibc reuse the large buffers of results and streams instead of giving each back to the system.

    Giving back is cheap; faulting the pages in again, one by one, is what costs. Only the main arena can keep more
    than 64 MiB, so there is no other. Call it before threads are started. Returns whether it took effect.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and all(mallopt(name, value) for name, value in _SETTINGS.items())


class Spare:
    """Memory that is free and still resident: kept, because it is cheap to use again, as long as it is not much.

    glibc cannot always use a free buffer again for one of the same size: an aligned one needs a little more room while
    it is made than it has in the end. Where something small that lasts lies between them, there would be as many free
    buffers as a network has layers.
    """

    def __init__(self) -> None:
        """Counts from the first time that `bound` is called."""
        self._lock = threading.Lock()
        self._settled: int | None = None

    def bound(self, allowance: int) -> bool:
        """Gives the pages of what is free back to the system if the process has grown by more than so many bytes.

        Where this cannot be known or done it does nothing. Returns whether it gave something back.
        """
        with self._lock:
            resident = _resident_bytes()
            if self._settled is None:
                self._settled = resident
            if resident <= self._settled + allowance or not _trim():
                return False
            self._settled = _resident_bytes()
            return True


def give_back() -> bool:
    """Gives the pages of all that is free back to the system; returns whether there were some."""
    return _trim()


def _resident_bytes() -> int:
    """Returns how much of the machine's memory this process has; 0 where nobody says."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _trim() -> bool:
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform.startswith("linux") else None
    return trim is not None and bool(trim(0))
