"""How many files this process may have open: a connection is one, and many systems allow 1,024 unless asked."""

from __future__ import annotations

BESIDES = 1024
"""How many files may be open besides connections: checkpoints, programs, libraries."""


def allow_connections(count: int) -> None:
    """Asks the system to let this process have so many connections, as far as it may be asked."""
    try:
        import resource  # noqa: PLC0415 (not there on every platform)
    except ImportError:
        return
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + BESIDES if most == resource.RLIM_INFINITY else min(count + BESIDES, most)
    if allowed != resource.RLIM_INFINITY and allowed < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
