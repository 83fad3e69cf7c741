"""The client for programs that wait for their answers."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from functools import cached_property
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Self, TypeVar, final

import grpc

from fluoroscope import calls
from fluoroscope.client.face import Face
from fluoroscope.client.method import dress
from fluoroscope.client.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import TracebackType

    from fluoroscope.calls import Exchange, Steps, StreamCall, Wait
    from fluoroscope.client.attempts import Attempts

CLOSE_SECONDS = 5.0
"""How long closing may take."""

_MAKING = threading.RLock()  # a handler of signals may close a client in the midst of it
"""Held while a channel is made: threads may make their first calls at once, and `close` must find what all call."""

P = ParamSpec("P")
T = TypeVar("T")
Item = TypeVar("Item")
Whole = TypeVar("Whole")


def _unary(operation: Callable[P, Steps[T]]) -> Callable[Concatenate[Client, P], T]:
    """Makes a method that returns the result of an operation."""

    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._run(operation(*args, **kwargs))

    dress(method, operation)
    return method


def _collected(
    operation: Callable[P, Steps[StreamCall[Item, Whole]]], *, returns: str
) -> Callable[Concatenate[Client, P], Whole]:
    """Makes a method that returns all that a stream brought."""

    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> Whole:
        call = self._run(operation(*args, **kwargs))
        return call.reader.collect(list(self._items(call)))

    dress(method, operation, returns=returns)
    return method


def _streamed(
    operation: Callable[P, Steps[StreamCall[Item, Whole]]], *, returns: str, words: str
) -> Callable[Concatenate[Client, P], Generator[Item, None, None]]:
    """Makes a method that yields what a stream brings, as it comes."""

    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> Generator[Item, None, None]:
        yield from self._items(self._run(operation(*args, **kwargs)))

    dress(method, operation, returns=returns, words=words)
    return method


def _awaited(operation: Callable[P, Steps[Wait]]) -> Callable[Concatenate[Client, P], None]:
    """Makes a method that returns as soon as what an operation waits for is ready."""

    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> None:
        waiting = Waiting(self._run(operation(*args, **kwargs)), self._destination)
        while True:
            try:
                with closing(self._items(waiting.watch())) as items:
                    next(items)
            except calls.FluoroscopeError as error:
                if self._closed:
                    raise
                pause = waiting.pause(error)
            else:
                return
            time.sleep(pause)  # before the next watch: bounded by the call's deadline

    dress(method, operation, returns="None")
    return method


@final
class Client(Face):
    """A connection to a fluoroscope server. Any number of threads may share one.

    It connects at the first call, and again by itself when the connection is lost. Calls that change nothing
    are made again when the server cannot be reached or cannot answer now, and when it is too busy and says when
    to come again: at most `retries` times, within the time that the call may take. A stream of which something
    has come is not. So a call to a server that is not there fails within a second with
    `ConnectionFailedError`; `wait_ready` waits for one.

        with fluoroscope.Client("localhost:8500") as client:
            client.predict("digits", {"image": x})["logits"]
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
        returns="Generator[Activation, None, None]",
        words="""Runs a network on one batch of inputs, and yields each value as soon as it is whole.

        Takes what `inspect` takes, raises what it raises, and holds one value at a time. Several reductions
        of a site come one by one. The checksums come last: values are confirmed when the iterator ends
        without an error. To leave the loop early cancels the call, and the server stops computing.
        """,
    )
    parameters = _collected(calls.inspect_parameters, returns="Inspection")
    stream_parameters = _streamed(
        calls.inspect_parameters,
        returns="Generator[Activation, None, None]",
        words="""Brings the parameters of a network, and yields each as soon as it is whole.

        Takes what `parameters` takes, raises what it raises, and holds one value at a time, as `stream` does.
        """,
    )
    compare = _collected(calls.compare, returns="Comparison")
    wait_ready = _awaited(calls.wait_ready)

    def close(self) -> None:
        """Closes the connection; calls that are under way raise CallCancelledError, and later ones ValueError."""
        self._closed = True
        # gRPC waits here for ever if a signal cut off a call at the wrong moment: it may, but nobody with it.
        closing = threading.Thread(target=self._channel.close, daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _channel(self) -> grpc.Channel:
        with _MAKING:
            return self._made

    @cached_property
    def _made(self) -> grpc.Channel:
        # At the first call: a process that is forked before it has a channel of its own.
        to = self._destination
        if to.credentials is None:
            return grpc.insecure_channel(to.target, options=to.options)
        return grpc.secure_channel(to.target, to.credentials, options=to.options)

    def _run(self, steps: Steps[T]) -> T:
        """Makes the calls that an operation asks for, and returns its result."""
        try:
            exchange = next(steps)
            while True:
                exchange = steps.send(self._answer(exchange))
        except StopIteration as done:
            result: T = done.value
            return result

    def _answer(self, exchange: Exchange) -> bytes:
        attempts = self._destination.attempts(exchange)
        while True:
            self._check_open(attempts)
            send: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(exchange.method)
            try:
                return send(exchange.request, **attempts.terms())
            except grpc.RpcError as error:
                pause = attempts.pause(error)
                if pause is None:
                    raise calls.error_of(error, target=self._destination.target) from error
            time.sleep(pause)  # before the next attempt: bounded by the call's deadline

    def _items(self, call: StreamCall[Item, Whole]) -> Generator[Item, None, None]:
        """Yields the items of a stream; to close the generator cancels the call."""
        attempts = self._destination.attempts(call.exchange)
        while True:
            try:
                return (yield from self._attempt(call, attempts))
            except grpc.RpcError as error:
                pause = attempts.pause(error)
                if pause is None:
                    progress = call.reader.progress()
                    raise calls.error_of(error, target=self._destination.target, progress=progress) from error
            time.sleep(pause)  # before the next attempt: bounded by the call's deadline

    def _attempt(self, call: StreamCall[Item, Whole], attempts: Attempts) -> Generator[Item, None, None]:
        """Yields the items of one attempt; raises grpc.RpcError."""
        self._check_open(attempts)
        open_stream: grpc.UnaryStreamMultiCallable[bytes, bytes] = self._channel.unary_stream(call.exchange.method)
        stream = open_stream(call.exchange.request, **attempts.terms())
        try:
            for message in stream:
                attempts.answering = True
                item = call.reader.feed(message)
                if item is not None:
                    yield item
            call.reader.finish()
        finally:
            stream.cancel()
