"""Clients to test, blocking and asyncio, and the server that they talk to."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from fluoroscope import AsyncClient, Client

from .fake_server import FakeServer, start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """A running server, fresh for each test."""
    fake = FakeServer()
    running = start(fake)
    yield fake
    if fake.hold is not None:
        fake.hold.set()
    running.stop(None).wait(10)


class Face:
    """Either face of the client, called in the same words: both must do the same."""

    def __init__(self, target: str, *, loop: asyncio.AbstractEventLoop | None, **settings: Any) -> None:
        self._loop = loop
        self.client: Any = Client(target, **settings) if loop is None else AsyncClient(target, **settings)

    def call(self, name: str, *args: Any, **kwargs: Any) -> Any:  # whatever the method returns
        """Calls a method to its end."""
        answer = getattr(self.client, name)(*args, **kwargs)
        return answer if self._loop is None else self._loop.run_until_complete(answer)

    def take(self, count: int | None, *args: Any, **kwargs: Any) -> list[Any]:  # as above
        """Takes so many activations of a stream, or all, and closes it."""
        if self._loop is not None:
            return self._loop.run_until_complete(self._take(count, *args, **kwargs))
        found = []
        stream = self.client.stream(*args, **kwargs)
        for activation in stream:
            found.append(activation)
            if len(found) == count:
                break
        stream.close()
        return found

    async def _take(self, count: int | None, *args: Any, **kwargs: Any) -> list[Any]:  # as above
        found = []
        stream = self.client.stream(*args, **kwargs)
        async for activation in stream:
            found.append(activation)
            if len(found) == count:
                break
        await stream.aclose()
        return found

    def close(self) -> None:
        """Closes the client."""
        self.call("close")


@pytest.fixture(params=["blocking", "asyncio"])
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[..., Face]]:
    """Makes clients of either face."""
    loop = asyncio.new_event_loop() if request.param == "asyncio" else None
    faces: list[Face] = []

    def make(target: str, **settings: Any) -> Face:  # the arguments of Client
        faces.append(Face(target, loop=loop, **settings))
        return faces[-1]

    yield make
    for face in faces:
        face.close()
    if loop is not None:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


@pytest.fixture
def face(connect: Callable[..., Face], server: FakeServer) -> Face:
    """A client of either face, of the running server."""
    return connect(server.target, timeout=20)
