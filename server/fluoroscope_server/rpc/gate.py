"""The gate: every call of our own services passes it, and is counted until it ends."""

from __future__ import annotations

import contextlib
import functools
import inspect
from typing import TYPE_CHECKING, Any

import grpc

from fluoroscope_server.rpc.context import client_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from fluoroscope_server.rpc.context import Context
    from fluoroscope_server.serving import Admission


class Gate:
    """Guards methods whose requests come serialized."""

    def __init__(self, admission: Admission) -> None:
        """Takes who decides."""
        self._admission = admission

    def guard(self, handler: Any) -> Any:
        """Returns a method's handler that is only reached by calls that were let in."""
        streams = handler.response_streaming
        kind = "_".join("stream" if each else "unary" for each in (handler.request_streaming, streams))
        behaviour = getattr(handler, kind)
        guarded = self._stream(behaviour) if inspect.isasyncgenfunction(behaviour) else self._call(behaviour, streams)
        return getattr(grpc, f"{kind}_rpc_method_handler")(guarded)

    def _call(self, behaviour: Callable[..., Any], streams: bool) -> Callable[..., Any]:
        admission = self._admission

        @functools.wraps(behaviour)
        async def call(request: Any, context: Context) -> Any:
            client, size = client_of(context), _size(request)
            admission.enter(client, size=size, streams=streams)
            try:
                return await behaviour(request, context)
            finally:
                admission.leave(client, size=size, streams=streams)

        return call

    def _stream(self, behaviour: Callable[..., Any]) -> Callable[..., Any]:
        admission = self._admission

        @functools.wraps(behaviour)
        async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
            client, size = client_of(context), _size(request)
            admission.enter(client, size=size, streams=True)
            try:
                async with contextlib.aclosing(behaviour(request, context)) as responses:
                    async for response in responses:
                        yield response
            finally:
                admission.leave(client, size=size, streams=True)

        return stream


def _size(request: Any) -> int:
    """Returns how many bytes a request has; of a stream of them none is here yet."""
    return len(request) if isinstance(request, bytes) else 0
