"""What gRPC logs of clients that vanish is dropped, and nothing else is."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import grpc.aio

from fluoroscope_server.rpc.vanished import VanishedClients, log_no_vanished_clients

if TYPE_CHECKING:
    import pytest


def test_only_vanished_clients_are_dropped(caplog: pytest.LogCaptureFixture) -> None:
    log_no_vanished_clients()
    log_no_vanished_clients()
    grpc_log = logging.getLogger("grpc._cython.cygrpc")
    assert len([each for each in grpc_log.filters if isinstance(each, VanishedClients)]) == 1
    for error in (grpc.aio.InternalError("the client is gone"), RuntimeError("something else")):
        grpc_log.error("raised in core", exc_info=error)
    grpc_log.error("no exception at all")
    found = [record.exc_info and type(record.exc_info[1]) for record in caplog.records]
    assert found == [RuntimeError, None]
