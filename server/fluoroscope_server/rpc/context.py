"""The context of a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import grpc.aio

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
"""What gRPC passes to a method besides the request; generic in its stubs only."""


def client_of(context: Context) -> str:
    """Returns who calls, for turns: the host, whatever connections it has; all that come by a unix socket are one."""
    peer: str = context.peer()
    return peer.rpartition(":")[0]
