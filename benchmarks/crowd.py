"""A crowd: several processes that call so many times a second, whatever becomes of the calls.

Run as a program, this is one of them: `crowd.py ADDRESS METHOD RATE SECONDS FILE`. It says when it is ready, begins
when standard input, which is the request, has ended, and writes how long each call took, and its status, to the file.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc.aio
import numpy as np
import uvloop

if TYPE_CHECKING:
    from collections.abc import Sequence

READY = b"ready\n"
"""What each process says when it is connected."""

PROCESSES = 3


def overrun(address: str, method: str, request: bytes, *, rate: float, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Calls so many times a second, all processes together; returns the seconds and the status code of each call."""
    command = [sys.executable, str(Path(__file__)), address, method, str(rate / PROCESSES), str(seconds)]
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{number}.npz" for number in range(PROCESSES)]
        callers = [
            subprocess.Popen([*command, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) for file in files
        ]
        for each in callers:
            assert each.stdout is not None
            assert each.stdout.readline() == READY
        for each in callers:
            assert each.stdin is not None
            each.stdin.write(request)
            each.stdin.close()
        codes = [each.wait() for each in callers]
        if any(codes):
            raise RuntimeError("a process of the crowd failed: what it said of it is above")
        results = [np.load(file) for file in files]
        return np.concatenate([each["times"] for each in results]), np.concatenate([each["codes"] for each in results])


async def _call(address: str, method: str, rate: float, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    gaps = np.random.default_rng().exponential(1 / rate, int(rate * seconds))
    times, codes = np.zeros(len(gaps)), np.zeros(len(gaps), int)
    async with grpc.aio.insecure_channel(address) as channel:
        await channel.channel_ready()
        sys.stdout.buffer.write(READY)
        sys.stdout.buffer.flush()
        request = sys.stdin.buffer.read()
        call: Any = channel.unary_unary(method)

        async def one(number: int) -> None:
            start = time.perf_counter()
            try:
                await call(request)
            except grpc.aio.AioRpcError as error:
                codes[number] = error.code().value[0]
            times[number] = time.perf_counter() - start

        begin = time.perf_counter()
        calls = []
        for number, due in enumerate(np.cumsum(gaps)):
            await asyncio.sleep(max(0.0, begin + due - time.perf_counter()))
            calls.append(asyncio.ensure_future(one(number)))
        await asyncio.gather(*calls)
    return times, codes


def main(arguments: Sequence[str]) -> None:
    """Calls, and writes the times and codes as an NPZ file."""
    address, method, rate, seconds, file = arguments
    times, codes = uvloop.run(_call(address, method, float(rate), float(seconds)))
    np.savez(file, times=times, codes=codes)


if __name__ == "__main__":
    main(sys.argv[1:])
