"""Many clients for long: no error, no wrong answer, no compilation, and memory stays flat.

FLUOROSCOPE_SOAK_SECONDS says how long; 10 when it is not set.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Saved

SCRIPT = Path(__file__).parent / "scripts" / "soak.py"
SECONDS = float(os.environ.get("FLUOROSCOPE_SOAK_SECONDS", "10"))
CLIENTS = 64
MIB = 1 << 20


@pytest.mark.timeout(SECONDS + 180)
def test_many_clients_for_long(checkpoints: Saved, record_property: Callable[[str, object], None]) -> None:
    models = {name: checkpoints.folders[name] for name in ("relu", "swish", "convolutions")}
    command = [sys.executable, str(SCRIPT)]
    with ServerProcess(models) as server:
        asking = subprocess.Popen(
            [*command, server.until_ready().target, str(CLIENTS), str(SECONDS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert asking.stdout is not None
            assert json.loads(asking.stdout.readline()) == "warm"
            warm = server.metrics()
            assert json.loads(asking.stdout.readline()) == "busy"
            before = server.resident_bytes()
            said, _ = asking.communicate("go\n", timeout=SECONDS + 60)
        finally:
            asking.kill()
            asking.wait(60)
        assert asking.returncode == 0
        result = json.loads(said)
        after = server.metrics()
        growth = server.resident_bytes() - before

        for name, value in {**result, "resident_mib": before // MIB, "growth_mib": growth / MIB}.items():
            record_property(name, value)
        assert result["wrong"] == 0
        assert result["idle"] == 0, "every client was served"
        assert result["calls"] > CLIENTS * SECONDS / 2
        compiled = "fluoroscope_compile_seconds_count"
        assert after.total(compiled) == warm.total(compiled)
        calls = sum(
            after.total("grpc_server_handled_total", grpc_method=method, grpc_code="OK")
            - warm.total("grpc_server_handled_total", grpc_method=method, grpc_code="OK")
            for method in ("Predict", "InspectActivations")
        )
        assert calls >= result["calls"]
        handled = after.total("grpc_server_handled_total")
        assert handled == after.total("grpc_server_handled_total", grpc_code="OK"), "no call failed"
        assert growth < max(before * 0.1, 24 * MIB)
        server.at_rest()
        assert server.stop() == 0
