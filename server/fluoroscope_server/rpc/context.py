"""The context of a call."""

from __future__ import annotations

import functools
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeAlias

from fluoroscope_server.keys import caller

if TYPE_CHECKING:
    import grpc.aio

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
"""What gRPC passes to a method besides the request; generic in its stubs only."""


_PEER: ContextVar[str] = ContextVar("peer", default="")


def remember_peer(context: Context) -> None:
    """Notes from where a call comes, when it begins.

    Of a call that has ended gRPC cannot be asked: it has none any more, and looks all the same, which ends the process.
    """
    _PEER.set(context.peer())


def current_client() -> str:
    """Returns who makes the call that is being answered: their token's name, or their machine, `ipv4:10.0.0.7`."""
    name = caller().name
    return f"token:{name}" if name else _without_port(_PEER.get())


@functools.lru_cache(maxsize=4096)
def _without_port(peer: str) -> str:
    return peer.rpartition(":")[0] if peer.startswith(("ipv4:", "ipv6:")) else peer
