"""Clients that vanish, and what gRPC would log of them."""

from __future__ import annotations

import logging

import grpc.aio

_GRPC = logging.getLogger("grpc._cython.cygrpc")


class VanishedClients(logging.Filter):
    """Drops the tracebacks that gRPC logs when a message finds no client any more.

    That is no error of the server, and the call is counted as CANCELLED already.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Returns whether a record is of anything else."""
        return not (record.exc_info and isinstance(record.exc_info[1], grpc.aio.InternalError))


def log_no_vanished_clients() -> None:
    """Keeps them out of gRPC's own log from now on."""
    if not any(isinstance(each, VanishedClients) for each in _GRPC.filters):
        _GRPC.addFilter(VanishedClients())
