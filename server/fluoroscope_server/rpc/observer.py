"""The observer: counts every call, and turns every exception into a status."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from fluoroscope_server.errors import FluoroscopeError, LimitExceededError, ran_out_of_memory
from fluoroscope_server.rpc.call_log import REQUEST_ID, CallLog, new_request_id, request_id_of
from fluoroscope_server.rpc.context import remember_peer
from fluoroscope_server.rpc.status import code_of, message_of, trailing_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from fluoroscope_server.metrics import MethodMetrics, Metrics
    from fluoroscope_server.rpc.context import Context
    from fluoroscope_server.rpc.guard import Admit

_Start = tuple[float, str]
"""When a call began, and how its request is named."""

_Status = tuple[grpc.StatusCode, str, tuple[tuple[str, str | bytes], ...]]
"""What a call ends with: its code, its message, its trailing metadata."""

Handler = Any
"""A grpc.RpcMethodHandler; gRPC's types are generic in their stubs only."""

_TYPES = {
    "unary_unary": "unary",
    "unary_stream": "server_stream",
    "stream_unary": "client_stream",
    "stream_stream": "bidi_stream",
}
"""What go-grpc-middleware calls each kind of method: the dashboards made for its metrics choose by that."""


class Observer:
    """Wraps methods when they are registered, so that a call passes no interceptor on its way."""

    def __init__(self, metrics: Metrics, calls: CallLog | None = None) -> None:
        """Takes where to count, and where to write of calls."""
        self._metrics = metrics
        self._calls = calls or CallLog()

    def observe(self, method: str, handler: Handler, admit: Admit = lambda _: None) -> Handler:
        """Returns a method's handler that counts, lets in and translates; its series are exported from now on."""
        _, service, name = method.split("/")
        streams_in, streams_out = handler.request_streaming, handler.response_streaming
        kind = {
            (False, False): "unary_unary",
            (False, True): "unary_stream",
            (True, False): "stream_unary",
            (True, True): "stream_stream",
        }[streams_in, streams_out]
        series = self._metrics.method(_TYPES[kind], service, name)
        observed = _Observed(
            behaviour=getattr(handler, kind),
            series=series,
            admit=admit,
            takes_many=streams_in,
            count_shed=self._metrics.count_shed,
            method=method,
            calls=self._calls,
        )
        behaviour = observed.stream if streams_out else observed.call
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(behaviour, handler.request_deserializer, handler.response_serializer)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Observed:
    """A method, in the two forms that grpc.aio is given: one returns its answer, the other writes its answers."""

    behaviour: Callable[..., Any]
    series: MethodMetrics
    admit: Admit
    takes_many: bool
    count_shed: Callable[[str], None]
    method: str
    calls: CallLog
    aborting: set[asyncio.Task[None]] = field(default_factory=set)

    async def call(self, request: Any, context: Context) -> Any:
        start = self._begin(context)
        try:
            self.admit(context)
            response = await self.behaviour(self._requests(request, context), context)
        except BaseException as error:  # a call that its client gave up is counted, too
            await self._fail(error, context, start)
            raise
        self.series.sent.value += 1
        self._end(start, "OK")
        return response

    async def stream(self, request: Any, context: Context) -> None:
        """Writes what the method yields, and closes it before the call ends, however it does.

        Given a generator, gRPC lets go of it when the client has gone, and the rest of it would run after the call.
        """
        start = self._begin(context)
        try:
            self.admit(context)
            async with contextlib.aclosing(self.behaviour(self._requests(request, context), context)) as responses:
                async for response in responses:
                    await context.write(response)
                    self.series.sent.value += 1
        except BaseException as error:  # as in `call`
            await self._fail(error, context, start)
            raise
        self._end(start, "OK")

    def _requests(self, request: Any, context: Context) -> Any:
        if self.takes_many:
            return self._received(context)
        self.series.received.value += 1
        return request

    async def _received(self, context: Context) -> AsyncIterator[Any]:
        """Yields the requests of a stream of them, for each of which the caller must be let in anew.

        gRPC's own iterator would hold each request until the next one comes, which may be for days.
        """
        while (request := await context.read()) is not grpc.aio.EOF:
            self.series.received.value += 1
            self.admit(context)
            yield request
            del request

    def _begin(self, context: Context) -> _Start:
        remember_peer(context)
        self.series.started.value += 1
        self.series.in_flight.value += 1
        request_id = request_id_of(context) or (new_request_id() if self.calls.all or self.takes_many else "")
        if request_id:  # one that nobody asked for, of a call of which nothing is written, would cost both sides time
            context.set_trailing_metadata(((REQUEST_ID, request_id),))
        return time.perf_counter(), request_id

    def _end(self, start: _Start, code: str, **more: Any) -> None:
        began, request_id = start
        seconds = time.perf_counter() - began
        self.series.in_flight.value -= 1
        self.series.seconds.observe(seconds)
        self.series.handled[code].value += 1
        if code != "OK" or self.calls.all:
            request_id = request_id or new_request_id()
            self.calls.ended(self.method, code, seconds, request_id=request_id, **more)

    async def _fail(self, error: BaseException, context: Context, start: _Start) -> None:
        """Counts a call that failed, and ends it with the status that the error means."""
        began, request_id = start[0], start[1] or new_request_id()
        start = began, request_id
        names = {"request_id": request_id}
        cause = None
        if isinstance(error, Exception) and not isinstance(error, FluoroscopeError) and ran_out_of_memory(error):
            error = _no_memory()
        told = _told(error)
        if told is not None:
            failure = told
        elif isinstance(error, FluoroscopeError):
            failure = error
            if isinstance(error, LimitExceededError):
                self.count_shed(error.reason)
        elif isinstance(error, Exception) and not isinstance(error, grpc.aio.BaseError):
            failure, cause = _internal_error(request_id), error
            names["error_id"] = request_id
        else:
            self._end(start, _code_name(error, context))
            return
        code, message = code_of(failure), message_of(failure)
        self._end(start, code.name, reason=failure.reason, error=message, cause=cause)
        status = code, message, (*trailing_of(failure, **names), (REQUEST_ID, request_id))
        await (context.abort(*status) if told is None else self._abort_beside(context, status))

    async def _abort_beside(self, context: Context, status: _Status) -> None:
        """Lets a call end now whose client does not read: gRPC sends the status when it has room, the call holds none.

        What waits for that is a task of its own, which has begun when this returns.
        """
        if context.done():  # the client has gone meanwhile
            return
        aborting = asyncio.ensure_future(_abort(context, status))
        self.aborting.add(aborting)
        aborting.add_done_callback(self.aborting.discard)
        await asyncio.sleep(0)  # once the call has ended, gRPC must not be asked for more of it


async def _abort(context: Context, status: _Status) -> None:
    with contextlib.suppress(grpc.aio.BaseError):  # also if the client goes before it has read the status
        await context.abort(*status)


def _told(error: BaseException) -> FluoroscopeError | None:
    """Returns why a call was cancelled, if whoever cancelled it gave a reason."""
    reason = error.args[0] if isinstance(error, asyncio.CancelledError) and error.args else None
    return reason if isinstance(reason, FluoroscopeError) else None


def _no_memory() -> FluoroscopeError:
    """Returns what a caller is told whose request took more memory than there is."""
    return LimitExceededError(
        "the device has no memory left for this request: send fewer rows, ask for fewer sites at once, or ask again "
        "when it has less to do",
        reason="OUT_OF_MEMORY",
    )


def _internal_error(request_id: str) -> FluoroscopeError:
    """Returns what a caller may know of an error that nobody expected."""
    message = f"internal error {request_id}: the server's log has the details under this id"
    return FluoroscopeError(message, reason="INTERNAL")


def _code_name(error: BaseException, context: Context) -> str:
    """Returns the code of a call that its own method aborted, or whose client gave up or is not there any more."""
    if isinstance(error, grpc.aio.AbortError):
        code = context.code()
        return next(each.name for each in grpc.StatusCode if code in {each, each.value[0]})
    remaining: float | None = context.time_remaining()  # None without a deadline, though the stubs deny it
    # The client's own clock may be a little ahead, and its reset be here before this deadline.
    return "CANCELLED" if remaining is None or remaining > 0.01 else "DEADLINE_EXCEEDED"
