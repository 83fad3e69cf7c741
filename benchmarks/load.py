"""Load: the same client for every server, in the process that measures."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import numpy as np
import uvloop

OPTIONS = (("grpc.max_receive_message_length", -1),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What a client shows, and whom it trusts."""

    root: bytes | None = None
    """The certificate that vouches for the server (PEM); None encrypts nothing."""

    token: str | None = None
    """The bearer token; None shows none."""

    def channel(self, grpc_or_aio: Any, address: str) -> Any:
        """Returns a channel of `grpc`, or of `grpc.aio`."""
        if self.root is None:
            return grpc_or_aio.insecure_channel(address, options=OPTIONS)
        return grpc_or_aio.secure_channel(address, grpc.ssl_channel_credentials(self.root), options=OPTIONS)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...] | None:
        """Returns what goes with each call."""
        return None if self.token is None else (("authorization", f"Bearer {self.token}"),)


OPEN = Access()


def latencies(address: str, method: str, request: bytes, *, seconds: float, access: Access = OPEN) -> np.ndarray:
    """Calls one after the other for a while; returns the time of each call, in seconds."""
    times = []
    metadata = access.metadata
    with access.channel(grpc, address) as channel:
        call: Any = channel.unary_unary(method)
        for _ in range(20):
            call(request, metadata=metadata)
        end = time.perf_counter() + seconds
        while (start := time.perf_counter()) < end:
            call(request, metadata=metadata)
            times.append(time.perf_counter() - start)
    return np.asarray(times)


def throughput(
    address: str, method: str, request: bytes, *, in_flight: int, seconds: float, access: Access = OPEN
) -> float:
    """Keeps so many calls under way for a while; returns how many ended per second."""
    return uvloop.run(_throughput(address, method, request, in_flight, seconds=seconds, access=access))


async def _throughput(
    address: str, method: str, request: bytes, in_flight: int, *, seconds: float, access: Access
) -> float:
    metadata = access.metadata
    async with access.channel(grpc.aio, address) as channel:
        call: Any = channel.unary_unary(method)
        await asyncio.gather(*(call(request, metadata=metadata) for _ in range(in_flight)))
        done = 0
        start = time.perf_counter()

        async def client() -> None:
            nonlocal done
            while time.perf_counter() - start < seconds:
                await call(request, metadata=metadata)
                done += 1

        await asyncio.gather(*(client() for _ in range(in_flight)))
        return done / (time.perf_counter() - start)


def stream_rate(address: str, method: str, request: bytes) -> float:
    """Reads one stream to its end and keeps nothing; returns megabytes (10^6) per second."""
    return uvloop.run(_stream_rate(address, method, request))


async def _stream_rate(address: str, method: str, request: bytes) -> float:
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        call: Any = channel.unary_stream(method)
        start = time.perf_counter()
        size = 0
        async for message in call(request):
            size += len(message)
        return size / (time.perf_counter() - start) / 1e6
