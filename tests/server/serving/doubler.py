"""A network for tests of the batcher, which may be held and may fail, and how it is asked."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from fluoroscope_server.serving import StageClock
from fluoroscope_server.serving.batcher import QUICK_SECONDS, Batcher
from fluoroscope_server.serving.parts import Inputs, Outputs

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from fluoroscope_server.serving.batcher import Job

Predictions = Batcher[Inputs, Outputs]

WAIT = 20
SLOW = 2 * QUICK_SECONDS
POISON = -1.0


class Doubler:
    """A network that doubles; it may be held, and it fails if some row is `POISON`."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.begun = threading.Semaphore(0)
        self.batches: list[list[int]] = []
        self.threads: list[int] = []

    def __call__(self, jobs: Sequence[Job[Inputs]]) -> list[Outputs]:
        self.batches.append([job.rows for job in jobs])
        self.threads.append(threading.get_ident())
        self.begun.release()
        assert self.go.wait(WAIT)
        whole = np.concatenate([job.asked["x"] for job in jobs])
        if POISON in whole:
            raise ValueError("poisoned")
        ends = np.cumsum([job.rows for job in jobs])
        return [{"y": whole[end - job.rows : end] * 2} for job, end in zip(jobs, ends, strict=True)]

    async def until_begun(self) -> None:
        assert await asyncio.to_thread(self.begun.acquire, timeout=WAIT)


def submit(batcher: Predictions, *values: float, client: str = "") -> asyncio.Future[Outputs]:
    return batcher.submit({"x": np.array(values)}, len(values), StageClock(), client=client)


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(main(), WAIT))
