"""The allocator of the C library, told to keep what it has."""

from __future__ import annotations

import ctypes
import sys

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
