"""A server that is killed comes back: on its port, from whole programs, for clients that were there before."""

from __future__ import annotations

import signal
import socket
from typing import TYPE_CHECKING

import numpy as np
import pytest

import fluoroscope

from .saved import batch
from .server_process import ServerProcess

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Saved


def free_address() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{taken.getsockname()[1]}"


def test_a_server_that_is_killed_comes_back(checkpoints: Saved, tmp_path: Path) -> None:
    address, models = free_address(), {"relu": checkpoints.folders["relu"]}
    option = f"--compile-cache={tmp_path / 'programs'}"
    with fluoroscope.Client(address) as client:
        with ServerProcess(models, option, listen=address) as server:
            server.until_ready()
            before = client.predict("relu", {"x": batch(2)})["logits"]
            stream = client.stream("relu", {"x": batch(2)}, sites="**")
            next(stream)
            server.signal(signal.SIGKILL)
            assert server.wait() == -signal.SIGKILL
        with pytest.raises(fluoroscope.FluoroscopeError):
            client.predict("relu", {"x": batch(2)})
        with ServerProcess(models, option, listen=address) as server:
            server.until_ready()
            client.wait_ready("relu", timeout=60)
            np.testing.assert_array_equal(client.predict("relu", {"x": batch(2)})["logits"], before)
            assert "Dense_0" in client.inspect("relu", {"x": batch(2)}, sites="**")
            assert server.metrics().total("fluoroscope_compile_cache_total", result="miss") == 0
            assert server.stop() == 0
