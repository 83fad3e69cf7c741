"""Health: who watches is told of every change, also of one that comes while the last is on its way."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from fluoroscope_server.rpc.health import HealthService

SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING
ANY_MODEL = HealthCheckRequest(service="digits").SerializeToString()
NO_CONTEXT = cast("Any", None)


def test_a_drain_while_a_status_is_on_its_way_is_told_too() -> None:
    async def main() -> list[int]:
        health = HealthService()
        health.set("digits", serving=True)
        told = []
        async for message in health.watch(ANY_MODEL, NO_CONTEXT):
            told.append(HealthCheckResponse.FromString(message).status)
            health.drain()  # the watch is still at the message before
        return told

    assert asyncio.run(asyncio.wait_for(main(), 10)) == [SERVING, NOT_SERVING]


def test_a_change_while_a_status_is_on_its_way_is_told_too() -> None:
    async def main() -> None:
        health = HealthService()
        health.set("digits", serving=True)
        watch = health.watch(ANY_MODEL, NO_CONTEXT)
        for status in (SERVING, NOT_SERVING, SERVING):
            assert HealthCheckResponse.FromString(await anext(watch)).status == status
            health.set("digits", serving=status != SERVING)

    asyncio.run(asyncio.wait_for(main(), 10))
