"""Somebody sets the clock while the server runs: what is measured or waited for must not notice.

The wall clock of the server is libfaketime's, and no other: what reads the monotonic clock reads the real one.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import numpy as np

import fluoroscope
from fluoroscope_server.keys import entry_of, new_token
from fluoroscope_server.rpc.open_inference.inference import open_inference_pb2

from ..lacking import lack
from . import saved
from .conftest import ended_well
from .scripts.trainer import config, variables
from .server_process import ServerProcess, eventually

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
X = np.ones((2, saved.FEATURES), np.float32)
HOUR, DAY = 3600, 86400


class Clock:
    """The wall clock of a server."""

    def __init__(self, file: Path) -> None:
        """Takes where libfaketime reads how many seconds it goes before the real one."""
        self._file = file
        self.jump(0)

    def jump(self, seconds: int) -> None:
        """Sets it to so many seconds from now."""
        beside = self._file.with_suffix(".new")
        beside.write_text(f"{seconds:+d}\n")
        beside.replace(self._file)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",  # to read it each time would cost more than all the rest
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }


def save(model: Path, step: int) -> None:
    saved.save_series(model, variables(step, saved.FEATURES), config(saved.FEATURES), step=step)


def told(server: ServerProcess, token: str) -> float:
    """Returns when the server thinks that it was asked last, in seconds from now."""
    with grpc.insecure_channel(server.target) as channel:
        ask: Any = channel.unary_unary("/inference.GRPCInferenceService/ModelStatistics")
        request = open_inference_pb2.ModelStatisticsRequest(name="digits").SerializeToString()
        answer = ask(request, metadata=(("authorization", f"Bearer {token}"),), timeout=30)
    statistics = open_inference_pb2.ModelStatisticsResponse.FromString(answer).model_stats
    return max(each.last_inference for each in statistics) / 1000 - datetime.now(UTC).timestamp()


def test_the_clock_jumps(tmp_path: Path) -> None:
    if not LIBRARIES:
        lack("libfaketime is not installed (Debian: the package faketime)")
    token, model, tokens = new_token(), tmp_path / "digits", tmp_path / "tokens.toml"
    last_day = datetime.now(UTC).date() + timedelta(days=2)
    tokens.write_text(entry_of(token, "ada", ["predict", "inspect"], expires=last_day))
    tokens.chmod(0o600)
    save(model, 1)
    clock = Clock(tmp_path / "clock")
    began = time.monotonic()
    with (
        ServerProcess(
            {"digits": model}, f"--tokens={tokens}", "--watch", "--poll=0.1", environment=clock.environment
        ) as server,
        fluoroscope.Client(server.until_ready().target, token=token, timeout=30) as client,
    ):

        def answer() -> float:
            return float(client.predict("digits", {"x": X})["logits"][0, 0])

        def jump(seconds: int) -> None:
            """Sets the clock, and asks until the server has noticed."""
            clock.jump(seconds)
            eventually(lambda: answer() > 0 and abs(told(server, token) - seconds) < 60, what="it jumps")

        for step, seconds in enumerate((HOUR, -300 * DAY), 2):
            stream = client.stream("digits", {"x": X}, sites="Dense_*", execution="staged")
            first = next(stream)
            jump(seconds)
            assert len([first, *stream]) == 2, "a stream that was under way is whole"
            save(model, step)  # the watch goes on
            server.hears(f"loaded digits: version {step} ", timeout=30)
            assert answer() == 2 * step * step + step

        clock.jump(3 * DAY)  # the one thing that goes by the calendar
        eventually(lambda: refused(client) == "TOKEN_EXPIRED", what="the token has expired")
        clock.jump(-HOUR)
        eventually(lambda: refused(client) is None, what="the token is good again")

        server.at_rest()
        metrics, elapsed = server.metrics(), time.monotonic() - began
        for name in ("fluoroscope_stage_seconds", "grpc_server_handling_seconds", "fluoroscope_compile_seconds"):
            sums = [each.value for each in metrics.samples if each.name == f"{name}_sum"]
            assert sums
            assert all(0 <= each <= 2 * elapsed for each in sums), (name, sums)
        ended_well(server)


def refused(client: fluoroscope.Client) -> str | None:
    """Returns why the server does not know us; None if it does."""
    try:
        client.predict("digits", {"x": X})
    except fluoroscope.UnauthenticatedError as error:
        return error.reason
    return None
