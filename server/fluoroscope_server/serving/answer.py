"""An answer to an inspection: its results, made into messages on another thread while the last ones are sent."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fluoroscope_server.engine import read

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
    from concurrent.futures import Executor

    import jax

    from fluoroscope_server.engine import Inspection, Program, Result, Results, ResultSpec

BATCH_BYTES = 1 << 20
"""About how many bytes of messages are made at once: large enough that changing threads costs nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an inspection brings. Nothing has run until `messages` is iterated."""

    inspection: Inspection
    """The resolved question."""

    program: Program
    """The program that answers it."""

    held: bool
    """Whether the program was held already; otherwise this request waited for the compiler."""

    compute: Callable[[], Awaitable[Results]]
    """Runs the program on the device."""

    reading: Executor
    """Where results are brought to the host and made into messages."""

    async def messages(self, encode: Callable[[Iterator[Result]], Iterator[bytes]]) -> AsyncIterator[list[bytes]]:
        """Runs the program and yields its results as messages, a few at a time, in order.

        While the caller sends some, the next are made; no more than these are held besides what is still on the
        device, and a result is let go when its last message is made.

        Args:
            encode: makes messages of results; called, and iterated, on another thread.
        """
        loop = asyncio.get_running_loop()
        messages = encode(_read(self.inspection.results, list(await self.compute())))
        ahead = loop.run_in_executor(self.reading, _take, messages)
        while batch := await ahead:
            ahead = loop.run_in_executor(self.reading, _take, messages)
            yield batch


def _read(specs: Sequence[ResultSpec], results: list[Sequence[jax.Array]]) -> Iterator[Result]:
    results.reverse()  # so that each can be let go from the end when it is read
    for spec in specs:
        yield read(spec, results.pop())


def _take(messages: Iterator[bytes]) -> list[bytes]:
    """Returns the next messages, about `BATCH_BYTES` of them; none if there are no more."""
    batch: list[bytes] = []
    size = 0
    for message in messages:
        batch.append(message)
        size += len(message)
        if size >= BATCH_BYTES:
            break
    return batch
