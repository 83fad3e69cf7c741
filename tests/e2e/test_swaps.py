"""Versions are swapped under many clients, by an operator and by a trainer, and no client notices.

FLUOROSCOPE_SOAK_SECONDS says for how long; as long as twenty swaps take when it is not set.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import fluoroscope

from . import saved
from .conftest import ended_well
from .scripts.trainer import config, variables
from .server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SCRIPTS = Path(__file__).parent / "scripts"
SECONDS = float(os.environ.get("FLUOROSCOPE_SOAK_SECONDS", "0"))
CLIENTS = 32
SWAPS = 20
WARM_UP = 8
"""Swaps after which memory should grow no more."""

MIB = 1 << 20


@contextlib.contextmanager
def script(name: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Gives a process of one of the scripts; it ends with the context."""
    command = [sys.executable, str(SCRIPTS / name), *map(str, arguments)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=60)


def trained(trainer: subprocess.Popen[str]) -> int:
    """Lets the trainer save steps, and delete older ones; returns the last."""
    assert trainer.stdin is not None
    assert trainer.stdout is not None
    trainer.stdin.write("\n")
    trainer.stdin.flush()
    step: int = json.loads(trainer.stdout.readline())
    return step


def label_newest(client: fluoroscope.Client) -> None:
    """Lets the label of the trained model follow what serves, as an operator does who has looked at it."""
    serving = client.model("trained").version
    # What served when we looked may be gone by now: then the label stays where it is.
    with contextlib.suppress(fluoroscope.WrongStateError):
        client.set_label("trained", "stable", serving)


def swap_by_hand(client: fluoroscope.Client, old: int, new: int) -> None:
    """Lets another version of the other model serve in place of one."""
    client.load_model("operated", version=new)
    client.set_label("operated", "stable", new)
    client.unload_model("operated", version=old)


def until_asked(server: ServerProcess) -> None:
    """Waits until every client has been answered again: what serves now has been asked then."""
    before = answered(server)
    while answered(server) < before + 2 * CLIENTS:
        time.sleep(0.02)


def answered(server: ServerProcess) -> float:
    return server.metrics().total("grpc_server_handled_total", grpc_code="OK", grpc_method="ModelInfer")


@pytest.mark.timeout(SECONDS + 300)
def test_nobody_notices_a_swap(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    models = tmp_path / "models"
    for step in (1, 2):
        saved.save_series(models / "operated", variables(step, saved.FEATURES), config(saved.FEATURES), step=step)
    with (
        ServerProcess({}, f"--repository={models}", "--watch", "--poll=0.1") as server,
        script("trainer.py", models / "trained", saved.FEATURES) as trainer,
        fluoroscope.Client(server.until_ready().target, timeout=60) as client,
    ):
        server.hears(f"loaded trained: version {trained(trainer)} ")
        label_newest(client)
        client.set_label("operated", "stable", 2)
        with script("swapped_clients.py", server.target, CLIENTS, "trained:stable", "operated:stable") as clients:
            swaps, old, new, before = 0, 2, 1, 0
            end = time.monotonic() + SECONDS
            while swaps < SWAPS or time.monotonic() < end:
                newest = trained(trainer)
                swap_by_hand(client, old, new)
                old, new = new, old
                server.hears(f"loaded trained: version {newest} ")
                label_newest(client)
                until_asked(server)
                swaps += 2
                if swaps == WARM_UP:
                    before = server.resident_bytes()
            growth = server.resident_bytes() - before
            said, _ = clients.communicate("enough\n", timeout=60)
        found: dict[str, Any] = json.loads(said)
        seen = {model: sum(each.startswith(model) for each in found["answers"]) for model in ("trained", "operated")}
        for name, value in {**seen, "calls": sum(found["answers"].values()), "growth_mib": growth / MIB}.items():
            record_property(name, value)

        assert (found["wrong"], found["failed"], found["idle"]) == ([], [], 0)
        assert seen["operated"] == 2
        assert seen["trained"] >= SWAPS / 2
        assert answered(server) > CLIENTS
        assert growth < max(before * 0.1, 24 * MIB)
        server.at_rest()
        ended_well(server)
