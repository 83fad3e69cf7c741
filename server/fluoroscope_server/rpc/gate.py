"""The gate: every call of our own services passes it, and is counted until it ends."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
from typing import TYPE_CHECKING, Any

import grpc

from fluoroscope_server.errors import LimitExceededError, UnavailableError
from fluoroscope_server.rpc.context import current_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from fluoroscope_server.rpc.context import Context
    from fluoroscope_server.serving import Admission

Task = asyncio.Task[Any] | None
"""The task of a call; gRPC gives each one of its own."""

WATCH_BYTES = 4 << 10
"""The most that a request for health or reflection may have: it is a name, and a stream holds it for days."""

END_SECONDS = 0.1
"""How long a server that drains looks for the end of a stream of requests: if it has come, all of it is answered."""

ANSWERED = 1 << 62
"""The message that stands for a whole answer: nothing follows it."""


class Gate:
    """Guards methods whose requests come serialized."""

    def __init__(self, admission: Admission) -> None:
        """Takes who decides; no call is open yet."""
        self._admission = admission
        self._open: dict[Task, int] = {}  # every open call; which message of it is in gRPC's hands, 0 if it is at work
        self._ending: dict[Task, UnavailableError] = {}  # why those are cancelled that are
        self._waiting: set[asyncio.Task[Any]] = set()  # those that wait for the next of many requests
        self._closed = False

    def guard(self, handler: Any) -> Any:
        """Returns a method's handler that is only reached by calls that were let in."""
        streams = handler.response_streaming
        kind = "_".join("stream" if each else "unary" for each in (handler.request_streaming, streams))
        behaviour = getattr(handler, kind)
        guarded = self._stream(behaviour) if inspect.isasyncgenfunction(behaviour) else self._call(behaviour, streams)
        return getattr(grpc, f"{kind}_rpc_method_handler")(guarded)

    def watch(self, handler: Any) -> Any:
        """Returns a method's handler that is reached whatever else is open, unless its own streams are too many.

        Its requests are small: they count in no limit.
        """
        if not handler.response_streaming:
            return grpc.unary_unary_rpc_method_handler(_small(handler.unary_unary))
        kind = f"{'stream' if handler.request_streaming else 'unary'}_stream"
        behaviour, admission = getattr(handler, kind), self._admission

        @functools.wraps(behaviour)
        async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
            asked = (
                _check_small(request) if isinstance(request, bytes) else (_check_small(each) async for each in request)
            )
            with admission.watch(current_client()):
                async with contextlib.aclosing(behaviour(asked, context)) as responses:
                    async for response in responses:
                        yield response

        return getattr(grpc, f"{kind}_rpc_method_handler")(stream)

    def close(self) -> None:
        """Takes no more requests from the streams of many that are open: each ends when it has answered what it has."""
        self._closed = True
        for task in list(self._waiting):
            self._cancel(task, _draining())

    def end(self) -> None:
        """Ends all calls that are open with UNAVAILABLE; who reads on finds that behind the message that gRPC has."""
        for task in list(self._open):
            self._end(task, _draining())

    def end_unloaded(self, task: Task) -> None:
        """Ends a call whose version was unloaded: with UNAVAILABLE, if its answer is not whole."""
        self._end(task, _unloaded())

    def unread(self, task: Task) -> int:
        """Returns which message of a call is in gRPC's hands, by a number that grows; 0 if the call is at work."""
        return self._open.get(task, ANSWERED)

    def _end(self, task: Task, why: UnavailableError) -> None:
        if task is None:
            return
        if self.unread(task):
            task.cancel(why)  # the observer, which waits until gRPC has room for the next message, is told
        else:
            self._cancel(task, why)

    def _cancel(self, task: asyncio.Task[Any], why: UnavailableError) -> None:
        self._ending[task] = why
        task.add_done_callback(lambda _: self._ending.pop(task, None))
        task.cancel()

    def _call(self, behaviour: Callable[..., Any], streams: bool) -> Callable[..., Any]:
        admission, calls = self._admission, self._open

        @functools.wraps(behaviour)
        async def call(request: Any, context: Context) -> Any:
            client, task = current_client(), asyncio.current_task()
            size = len(request) if isinstance(request, bytes) else 0  # each of a stream of them is a `message`
            admission.enter(client, size=size, streams=streams)
            calls[task] = 0
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
            client, task = current_client(), asyncio.current_task()
            size = len(request) if isinstance(request, bytes) else 0
            asked = request if isinstance(request, bytes) else self._asked(request)
            admission.enter(client, size=size, streams=True)
            calls[task] = count = 0
            try:
                async with contextlib.aclosing(behaviour(asked, context)) as responses:
                    async for response in responses:
                        calls[task] = count = count + 1
                        yield response
                        calls[task] = 0
            except asyncio.CancelledError:
                self._explain(task)
                raise
            finally:
                del calls[task]
                admission.leave(client, size=size, streams=True)

        return stream

    async def _asked(self, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """Yields the requests of a stream until the server drains; raises UnavailableError then."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (gRPC gives each call one)
        while not self._closed:
            self._waiting.add(task)
            try:
                request = await anext(requests)
            except StopAsyncIteration:
                return
            finally:
                self._waiting.discard(task)
            yield request
            del request  # the next may come days later
        if not await _at_its_end(requests):
            raise _draining()

    def _explain(self, task: Task) -> None:
        """Raises UnavailableError if it was us who cancelled a call."""
        why = self._ending.get(task)
        if why is not None and task is not None and task.cancelling():
            task.uncancel()
            raise why from None


async def _at_its_end(requests: AsyncIterator[Any]) -> bool:
    """Returns whether a client has said that no more requests come; they are not taken any more."""
    try:
        async with asyncio.timeout(END_SECONDS):
            await anext(requests)
    except StopAsyncIteration:
        return True
    except TimeoutError:
        pass
    return False


def _small(behaviour: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(behaviour)
    async def call(request: bytes, context: Context) -> Any:
        return await behaviour(_check_small(request), context)

    return call


def _check_small(request: bytes) -> bytes:
    """Returns a request for health or reflection; raises LimitExceededError if it is too large."""
    if len(request) > WATCH_BYTES:
        raise LimitExceededError(
            f"the request has {len(request):,} bytes, and the limit for health and reflection is {WATCH_BYTES:,}: "
            "it is the name of a model, a service, a symbol or a file",
            reason="REQUEST_TOO_LARGE",
        )
    return request


def _draining() -> UnavailableError:
    return UnavailableError(
        "the server ends, and did not wait for this call any longer: ask another", reason="DRAINING"
    )


def _unloaded() -> UnavailableError:
    return UnavailableError(
        "the version that answered was unloaded, and did not wait for this call any longer: ask again",
        reason="VERSION_UNLOADED",
    )
