"""The client for programs that run on asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import aclosing
from functools import cached_property
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeAlias, TypeVar, final

import grpc
import grpc.aio

from fluoroscope import calls
from fluoroscope.client.face import Face
from fluoroscope.client.method import dress
from fluoroscope.client.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from types import TracebackType

    from fluoroscope.calls import Arrived, Exchange, Steps, StreamCall, Wait
    from fluoroscope.client.attempts import Attempts

P = ParamSpec("P")
T = TypeVar("T")
Item = TypeVar("Item")
Whole = TypeVar("Whole")
Awaited: TypeAlias = Coroutine[Any, Any, T]


def _unary(operation: Callable[P, Steps[T]]) -> Callable[Concatenate[AsyncClient, P], Awaited[T]]:
    """Makes a method that returns the result of an operation."""

    async def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._run(operation(*args, **kwargs))

    dress(method, operation)
    return method


def _collected(
    operation: Callable[P, Steps[StreamCall[Item, Whole]]], *, returns: str
) -> Callable[Concatenate[AsyncClient, P], Awaited[Whole]]:
    """Makes a method that returns all that a stream brought."""

    async def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> Whole:
        call = await self._run(operation(*args, **kwargs))
        return call.reader.collect([item async for item in self._items(call)])

    dress(method, operation, returns=returns)
    return method


def _streamed(
    operation: Callable[P, Steps[StreamCall[Item, Whole]]], *, returns: str, words: str
) -> Callable[Concatenate[AsyncClient, P], AsyncGenerator[Item, None]]:
    """Makes a method that yields what a stream brings, as it comes."""

    async def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[Item, None]:
        call = await self._run(operation(*args, **kwargs))
        async with aclosing(self._items(call)) as items:
            async for item in items:
                yield item

    dress(method, operation, returns=returns, words=words)
    return method


def _awaited(operation: Callable[P, Steps[Wait]]) -> Callable[Concatenate[AsyncClient, P], Awaited[None]]:
    """Makes a method that returns as soon as what an operation waits for is ready."""

    async def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> None:
        waiting = Waiting(await self._run(operation(*args, **kwargs)), self._destination)
        while True:
            try:
                async with aclosing(self._items(waiting.watch())) as items:
                    await anext(items)
            except calls.FluoroscopeError as error:
                if self._closed:
                    raise
                pause = waiting.pause(error)
            else:
                return
            await asyncio.sleep(pause)

    dress(method, operation, returns="None")
    return method


@final
class AsyncClient(Face):
    """A connection to a fluoroscope server, for one event loop: `Client`, with `await`.

    async with fluoroscope.AsyncClient("localhost:8500") as client:
        (await client.predict("digits", {"image": x}))["logits"]
        async for activation in client.stream("digits", {"image": x}, sites="**"): ...
    """

    predict = _unary(calls.predict)
    sites = _unary(calls.list_sites)
    plan = _unary(calls.plan)
    models = _unary(calls.list_models)
    model = _unary(calls.get_model)
    load_model = _unary(calls.load_model)
    unload_model = _unary(calls.unload_model)
    set_label = _unary(calls.set_label)
    inspect = _collected(calls.inspect_activations, returns="Inspection")
    stream = _streamed(
        calls.inspect_activations,
        returns="AsyncGenerator[Activation, None]",
        words="""Runs a network on one batch of inputs, and yields each value as soon as it is whole.

        Takes what `inspect` takes, raises what it raises, and holds one value at a time. Several reductions
        of a site come one by one. The checksums come last: values are confirmed when the iterator ends
        without an error. To close the iterator early cancels the call, and the server stops computing:
        leave the loop within `async with contextlib.aclosing(client.stream(...))`.
        """,
    )
    parameters = _collected(calls.inspect_parameters, returns="Inspection")
    stream_parameters = _streamed(
        calls.inspect_parameters,
        returns="AsyncGenerator[Activation, None]",
        words="""Brings the parameters of a network, and yields each as soon as it is whole.

        Takes what `parameters` takes, raises what it raises, and holds one value at a time, as `stream` does.
        """,
    )
    compare = _collected(calls.compare, returns="Comparison")
    wait_ready = _awaited(calls.wait_ready)

    async def close(self) -> None:
        """Closes the connection; calls that are under way raise CallCancelledError, and later ones ValueError."""
        self._closed = True
        for call in list(self._calls):  # gRPC looks for them among the tasks, and does not find all
            call.cancel()
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @cached_property
    def _channel(self) -> grpc.aio.Channel:
        # Made at the first call: a channel belongs to the event loop that runs when it is made.
        to = self._destination
        if to.credentials is None:
            return grpc.aio.insecure_channel(to.target, options=to.options)
        return grpc.aio.secure_channel(to.target, to.credentials, options=to.options)

    @cached_property
    def _calls(self) -> set[grpc.aio.Call]:
        """The calls that are under way."""
        return set()

    async def _run(self, steps: Steps[T]) -> T:
        """Makes the calls that an operation asks for, and returns its result."""
        try:
            exchange = next(steps)
            while True:
                exchange = steps.send(await self._answer(exchange))
        except StopIteration as done:
            result: T = done.value
            return result

    def _check_cancelled(self, progress: Arrived | None = None) -> None:
        """Takes note that a call was cancelled: by whoever cancelled the task, or because the client was closed.

        Raises:
            CallCancelledError: It was closed. To asyncio that is no cancelled task: a group would end without an error.
        """
        task = asyncio.current_task()
        if self._closed and not (task is not None and task.cancelling()):
            text = f"this client of {self._destination.target} was closed before the call was answered"
            if progress is not None:
                text = f"{text} (When it was, {progress}.)"
            raise calls.CallCancelledError(text, reason="CANCELLED", arrived=progress)

    async def _answer(self, exchange: Exchange) -> bytes:
        attempts = self._destination.attempts(exchange)
        while True:
            self._check_open(attempts)
            send: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(exchange.method)
            call = send(exchange.request, **attempts.terms())
            self._calls.add(call)
            try:
                return await call
            except asyncio.CancelledError:
                self._check_cancelled()
                raise
            except grpc.RpcError as error:
                pause = attempts.pause(error)
                if pause is None:
                    raise calls.error_of(error, target=self._destination.target) from error
            finally:
                self._calls.discard(call)
            await asyncio.sleep(pause)

    async def _items(self, call: StreamCall[Item, Whole]) -> AsyncGenerator[Item, None]:
        """Yields the items of a stream; to close the generator cancels the call."""
        attempts = self._destination.attempts(call.exchange)
        while True:
            try:
                async with aclosing(self._attempt(call, attempts)) as items:
                    async for item in items:
                        yield item
            except asyncio.CancelledError:
                self._check_cancelled(call.reader.progress())
                raise
            except grpc.RpcError as error:
                pause = attempts.pause(error)
                if pause is None:
                    progress = call.reader.progress()
                    raise calls.error_of(error, target=self._destination.target, progress=progress) from error
            else:
                return
            await asyncio.sleep(pause)

    async def _attempt(self, call: StreamCall[Item, Whole], attempts: Attempts) -> AsyncGenerator[Item, None]:
        """Yields the items of one attempt; raises grpc.RpcError."""
        self._check_open(attempts)
        open_stream: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = self._channel.unary_stream(call.exchange.method)
        stream = open_stream(call.exchange.request, **attempts.terms())
        self._calls.add(stream)
        try:
            async for message in stream:
                attempts.answering = True
                item = call.reader.feed(message)
                if item is not None:
                    yield item
            call.reader.finish()
        finally:
            self._calls.discard(stream)
            stream.cancel()
