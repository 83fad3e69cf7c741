"""A restart: how long a server takes to be ready when its compile cache is empty, and when it is full."""

from __future__ import annotations

import tempfile
import time

import servers


def measure(model: str) -> tuple[float, float]:
    """Returns the seconds from the start of a server to its being ready, with an empty folder and then with a full one.

    The process, the import of JAX and the reading of the checkpoint are in both.
    """
    with tempfile.TemporaryDirectory() as folder:
        return _until_ready(model, folder), _until_ready(model, folder)


def _until_ready(model: str, folder: str) -> float:
    start = time.perf_counter()
    with servers.fluoroscope(model, compile_cache=folder):
        return time.perf_counter() - start
