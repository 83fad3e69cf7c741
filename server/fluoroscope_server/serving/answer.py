"""An answer to an inspection: its results, brought to the host a few at a time."""

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

GROUP_BYTES = 4 << 20
"""About how many bytes are brought to the host at once: large enough that changing threads costs nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an inspection brings. Nothing has run until `results` is iterated."""

    inspection: Inspection
    """The resolved question."""

    program: Program
    """The program that answers it."""

    held: bool
    """Whether the program was held already; otherwise this request waited for the compiler."""

    compute: Callable[[], Awaitable[Results]]
    """Runs the program on the device."""

    reading: Executor
    """Where results are brought to the host."""

    async def results(self) -> AsyncIterator[list[Result]]:
        """Runs the program and yields the results in order, in groups.

        While the caller sends one group, the next is brought to the host; no more than these two are held here
        besides what the device holds, and what was yielded is let go.
        """
        loop = asyncio.get_running_loop()
        groups = _groups(self.inspection.results, list(await self.compute()))
        ahead = loop.run_in_executor(self.reading, next, groups, None)
        while (group := await ahead) is not None:
            ahead = loop.run_in_executor(self.reading, next, groups, None)
            yield group


def _groups(specs: Sequence[ResultSpec], results: list[Sequence[jax.Array]]) -> Iterator[list[Result]]:
    group: list[Result] = []
    size = 0
    results.reverse()  # so that each can be let go from the end as it is read
    for spec in specs:
        if group and size + spec.byte_size > GROUP_BYTES:
            yield group
            group, size = [], 0
        group.append(read(spec, results.pop()))
        size += spec.byte_size
    if group:
        yield group
