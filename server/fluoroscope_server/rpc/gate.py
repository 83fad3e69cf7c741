"""The gate: every call of our own services passes it, and is counted until it ends."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
from typing import TYPE_CHECKING, Any

import grpc

from fluoroscope_server.errors import UnavailableError
from fluoroscope_server.rpc.context import client_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from fluoroscope_server.rpc.context import Context
    from fluoroscope_server.serving import Admission

Task = asyncio.Task[Any] | None
"""The task of a call; gRPC gives each one of its own."""


class Gate:
    """Guards methods whose requests come serialized."""

    def __init__(self, admission: Admission) -> None:
        """Takes who decides; no call is open yet."""
        self._admission = admission
        self._open: dict[Task, bool] = {}  # every open call, and whether it is at work, or in gRPC's own hands
        self._over = False

    def guard(self, handler: Any) -> Any:
        """Returns a method's handler that is only reached by calls that were let in."""
        streams = handler.response_streaming
        kind = "_".join("stream" if each else "unary" for each in (handler.request_streaming, streams))
        behaviour = getattr(handler, kind)
        guarded = self._stream(behaviour) if inspect.isasyncgenfunction(behaviour) else self._call(behaviour, streams)
        return getattr(grpc, f"{kind}_rpc_method_handler")(guarded)

    def end(self) -> None:
        """Ends all calls that are open with UNAVAILABLE; where gRPC is sending a message, when it has gone."""
        self._over = True
        for task, at_work in list(self._open.items()):
            if at_work and task is not None:
                task.cancel()

    def _call(self, behaviour: Callable[..., Any], streams: bool) -> Callable[..., Any]:
        admission, calls = self._admission, self._open

        @functools.wraps(behaviour)
        async def call(request: Any, context: Context) -> Any:
            client, task = client_of(context), asyncio.current_task()
            size = len(request) if isinstance(request, bytes) else 0  # of a stream of them none is here yet
            admission.enter(client, size=size, streams=streams)
            calls[task] = True
            try:
                return await behaviour(request, context)
            except asyncio.CancelledError:
                self._explain(task)
                raise
            finally:
                del calls[task]
                admission.leave(client, size=size, streams=streams)

        return call

    def _stream(self, behaviour: Callable[..., Any]) -> Callable[..., Any]:
        admission, calls = self._admission, self._open

        @functools.wraps(behaviour)
        async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
            client, task = client_of(context), asyncio.current_task()
            size = len(request) if isinstance(request, bytes) else 0
            admission.enter(client, size=size, streams=True)
            calls[task] = True
            try:
                async with contextlib.aclosing(behaviour(request, context)) as responses:
                    async for response in responses:
                        calls[task] = False
                        yield response
                        calls[task] = True
                        if self._over:
                            raise _ending()
            except asyncio.CancelledError:
                self._explain(task)
                raise
            finally:
                del calls[task]
                admission.leave(client, size=size, streams=True)

        return stream

    def _explain(self, task: Task) -> None:
        """Raises UnavailableError if it was us who cancelled a call."""
        if self._over and task is not None and task.cancelling():
            task.uncancel()
            raise _ending() from None


def _ending() -> UnavailableError:
    return UnavailableError(
        "the server ends, and did not wait for this call any longer: ask another", reason="DRAINING"
    )
