"""The context of a call."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeAlias

from fluoroscope_server.keys import caller

if TYPE_CHECKING:
    import grpc.aio

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
"""What gRPC passes to a method besides the request; generic in its stubs only."""


def client_of(context: Context) -> str:
    """Returns who calls: the name of their token, or the address of their machine, `ipv4:10.0.0.7`."""
    name = caller().name
    return f"token:{name}" if name else _without_port(context.peer())


@functools.lru_cache(maxsize=4096)
def _without_port(peer: str) -> str:
    return peer.rpartition(":")[0] if peer.startswith(("ipv4:", "ipv6:")) else peer
