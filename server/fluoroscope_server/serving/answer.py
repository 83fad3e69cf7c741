"""An answer to an inspection: its results, brought to the host while the last ones are sent."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fluoroscope_server.engine import device_is_host, paired, read
from fluoroscope_server.serving.turns import Turn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Hashable, Iterator, Sequence
    from concurrent.futures import Executor

    import jax

    from fluoroscope_server.engine import Inspection, Program, Result, Results, ResultSpec
    from fluoroscope_server.serving.device_queue import DeviceQueue

BATCH_BYTES = 1 << 20
"""About how many bytes of results are read at once: large enough that changing threads costs nothing."""

SUMMARY_BYTES = 4 << 10
"""What a few numbers count as: a histogram may have thousands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an inspection brings. Nothing has run until `results` is iterated."""

    inspection: Inspection
    """The resolved question."""

    program: Program
    """The program that answers it."""

    held: bool
    """Whether the program was held already; otherwise this request waited for the compiler."""

    run: Iterator[Results]
    """Runs the program, stage after stage, each when it is asked for."""

    device: DeviceQueue
    """Where it runs."""

    reading: Executor
    """Where results are brought to the host."""

    key: Hashable = ""
    """Whose it is: keys take turns on the device."""

    together: Callable[[], asyncio.Future[list[Result]]] | None = None
    """Runs it with others that ask the same, and brings all results at once; None if it must go alone."""

    async def results(self) -> AsyncIterator[list[Result]]:
        """Runs the program and yields its results in order, small ones together.

        The next stage runs, and the next results are brought to the host, while the caller sends some; no more than
        these are held. Between two stages the device does what else is waiting. Where the device is the host itself,
        the next stage would take the cores that send: there the first results of a staged program go first.
        """
        if self.together is not None:
            yield await self.together()
            return
        specs = iter(self.inspection.results)
        ahead = self._next_stage()
        alone = self.program.plan.staged and device_is_host()
        try:
            while (stage := await ahead) is not None:
                alone = alone and _size(stage) <= BATCH_BYTES
                if not alone:
                    ahead = self._next_stage()
                async for batch in self._read(specs, stage):
                    yield batch
                if alone:
                    ahead = self._next_stage()
                    alone = False
        finally:
            ahead.cancel()

    def _next_stage(self) -> asyncio.Future[list[Sequence[jax.Array]] | None]:
        def advance() -> list[Sequence[jax.Array]] | None:
            results = next(self.run, None)
            return None if results is None else list(results)

        return self.device.submit(advance, turn=Turn.INSPECTION, key=self.key)

    async def _read(
        self, specs: Iterator[ResultSpec], results: list[Sequence[jax.Array]]
    ) -> AsyncIterator[list[Result]]:
        reading = _results(specs, results)
        if device_is_host():  # there is nothing to bring: to look at what was computed costs less than changing threads
            for result in reading:
                yield [result]
            return
        loop = asyncio.get_running_loop()
        ahead = loop.run_in_executor(self.reading, _take, reading)
        while batch := await ahead:
            ahead = loop.run_in_executor(self.reading, _take, reading)
            yield batch


def _size(results: list[Sequence[jax.Array]]) -> int:
    """Returns how many bytes the results of a stage have on the device."""
    return sum(array.nbytes for arrays in results for array in arrays)


def _popped(results: list[Sequence[jax.Array]]) -> Iterator[Sequence[jax.Array]]:
    while results:
        yield results.pop()


def _results(specs: Iterator[ResultSpec], results: list[Sequence[jax.Array]]) -> Iterator[Result]:
    results.reverse()  # so that each can be let go from the end when it is read
    for spec, arrays in paired(specs, _popped(results)):
        yield read(spec, arrays)


def _take(results: Iterator[Result]) -> list[Result]:
    """Returns the next results, about `BATCH_BYTES` of them; none if there are no more."""
    batch: list[Result] = []
    size = 0
    for result in results:
        batch.append(result)
        size += result.nbytes if isinstance(result, np.ndarray) else SUMMARY_BYTES
        if size >= BATCH_BYTES:
            break
    return batch
