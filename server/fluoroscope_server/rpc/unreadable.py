"""Metadata that is no text, and that gRPC would log as it came."""

from __future__ import annotations

import logging

_GRPC = logging.getLogger("grpc._cython.cygrpc")


class UnreadableMetadata(logging.Filter):
    """Drops gRPC's complaints of metadata that is not UTF-8: they quote it, and it may be a token with a slip in it.

    Whoever sent it is told by the status of their call.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Returns whether a record is of anything else."""
        return not str(record.msg).startswith("Invalid encoding on")


def log_no_unreadable_metadata() -> None:
    """Keeps it out of gRPC's own log from now on."""
    if not any(isinstance(each, UnreadableMetadata) for each in _GRPC.filters):
        _GRPC.addFilter(UnreadableMetadata())
