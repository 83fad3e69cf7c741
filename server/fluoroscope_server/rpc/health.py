"""grpc.health.v1: whether the server, and each model, can answer.

Written here because the servicer of grpcio-health-checking (1.85) forgets all who watch a service when one of them
leaves, and never ends a watch, so that a drain would wait for it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from fluoroscope_server.errors import NotFoundError, nearest, quoted
from fluoroscope_server.keys import caller
from fluoroscope_server.rpc.decoding import parse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fluoroscope_server.rpc.context import Context


class HealthService:
    """Knows the status of the server, under the empty name, and of each model that is loaded."""

    def __init__(self) -> None:
        """Begins as not serving."""
        self._statuses = {"": HealthCheckResponse.NOT_SERVING}
        self._watchers: set[asyncio.Event] = set()
        self._draining = False

    def set(self, name: str, *, serving: bool) -> None:
        """Sets a status, and tells all who watch; a server that drains serves nothing any more."""
        serving = serving and not self._draining
        self._statuses[name] = HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING
        for changed in self._watchers:
            changed.set()

    def serving(self, name: str) -> bool:
        """Returns whether the server, under the empty name, or a model answers calls."""
        serving: bool = self._statuses.get(name) == HealthCheckResponse.SERVING
        return serving

    def drain(self) -> None:
        """Tells all who watch that nothing is served any more, and ends their streams."""
        self._draining = True
        for name in self._statuses:
            self.set(name, serving=False)

    async def check(self, data: bytes, context: Context) -> bytes:  # noqa: ARG002 (gRPC passes it)
        """Answers one `Check`; raises NotFoundError if there is no such service."""
        name = parse(HealthCheckRequest, data).service
        status = self._statuses.get(name)
        if status is None:
            known = [each for each in self._statuses if caller().sees(each)]
            raise NotFoundError(
                f"there is no service {quoted(name)} to be healthy"
                + (f"; nearest: {nearest(name, known)}" if known else ""),
                field="service",
                reason="SERVICE_NOT_FOUND",
            )
        answer: bytes = HealthCheckResponse(status=status).SerializeToString()
        return answer

    async def watch(self, data: bytes, context: Context) -> AsyncIterator[bytes]:  # noqa: ARG002 (gRPC passes it)
        """Answers one `Watch`: the status now and at each change, SERVICE_UNKNOWN as long as there is none."""
        name = parse(HealthCheckRequest, data).service
        changed = asyncio.Event()
        self._watchers.add(changed)
        last = None
        try:
            while True:
                changed.clear()
                status = self._statuses.get(name, HealthCheckResponse.SERVICE_UNKNOWN)
                if status != last:
                    yield HealthCheckResponse(status=status).SerializeToString()
                    last = status  # another may have come while this one was on its way
                elif self._draining:
                    return
                else:
                    await changed.wait()
        finally:
            self._watchers.discard(changed)
