"""The allocator of the C library, told to keep what it has."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEEP = 1 << 30


def keep_large_buffers() -> bool:
    """Lets glibc reuse the megabyte buffers of a stream instead of giving each back to the system.

    Giving back is cheap; faulting the pages in again, one by one, is what costs. Returns whether it took effect.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and all(mallopt(name, _KEEP) for name in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD))
