"""The servers that are measured, each a process of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HERE = Path(__file__).resolve().parent


@contextlib.contextmanager
def bare(kind: str) -> Iterator[str]:
    """Runs a bare server, 'asyncio' or 'threaded'; yields its address."""
    command = [sys.executable, str(HERE / "bare.py"), kind]
    # The rest of what fluoroscope tells its allocator, bare.py says itself: this must be said before the first thread.
    with _process(command, subprocess.PIPE, None, MALLOC_ARENA_MAX="1") as process:
        assert process.stdout is not None
        yield f"127.0.0.1:{int(process.stdout.readline())}"


@contextlib.contextmanager
def fluoroscope(*models: str, compile_cache: str = "off", options: Sequence[str] = ()) -> Iterator[str]:
    """Runs `fluoroscope-server` as a user would; yields its address when it is ready."""
    command = [sys.executable, "-m", "fluoroscope_server", "serve", "--listen", "127.0.0.1:0"]
    command += [f"--compile-cache={compile_cache}"]
    command += ["--http-listen", "127.0.0.1:0", *(f"--model={model}" for model in models), *options]
    with _process(command, None, subprocess.PIPE) as process:
        assert process.stderr is not None
        address = ""
        for line in process.stderr:
            address = line.split()[-1] if "gRPC on" in line else address
            if line.strip().endswith(": ready"):
                break
        else:
            raise RuntimeError(f"the server did not start: {line}")
        yield address


@contextlib.contextmanager
def _process(
    command: list[str], stdout: int | None, stderr: int | None, **variables: str
) -> Iterator[subprocess.Popen[str]]:
    path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PYTHONPATH": path, **variables}
    process = subprocess.Popen(command, stdout=stdout, stderr=stderr, text=True, env=environment)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
