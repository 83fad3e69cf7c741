"""Servers in processes of their own, started as a user starts them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.error import HTTPError
from urllib.request import urlopen

import psutil
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType

NETWORKS = Path(__file__).parent / "networks"
"""The folder with families that are named by import path; on the server's PYTHONPATH."""

LOOPBACK = "127.0.0.1:0"


def eventually(happened: Callable[[], bool], *, what: str, timeout: float = 30.0) -> None:
    """Waits until something has happened that nobody announces; fails when it has not in time."""
    deadline = time.monotonic() + timeout
    while not happened():
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}"
        time.sleep(0.02)


def _import_path() -> str:
    """Returns the server's PYTHONPATH: the networks of the tests, and what these tests themselves are run with."""
    return os.pathsep.join(filter(None, [str(NETWORKS), os.environ.get("PYTHONPATH", "")]))


def _surroundings() -> dict[str, str]:
    """Returns this process's environment, without what is meant for the tests alone: a server knows its settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith("FLUOROSCOPE_")}


class Metrics:
    """One scrape."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def total(self, name: str, **labels: str) -> float:
        """Returns the sum of the samples of that name with these labels; there must be one."""
        found = [each.value for each in self.samples if each.name == name and labels.items() <= each.labels.items()]
        assert found, f"no sample {name} {labels}"
        return sum(found)


class ServerProcess:
    """One server. What it says on standard error is kept; standard output must stay empty."""

    def __init__(
        self,
        models: Mapping[str, Path | str],
        *options: str,
        listen: str = LOOPBACK,
        http_listen: str = LOOPBACK,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Starts it; `until_ready` waits until it serves."""
        chosen = [f"--model={name}={path}" for name, path in models.items()]
        addresses = [f"--listen={listen}", f"--http-listen={http_listen}"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fluoroscope_server", "serve", *chosen, *addresses, *options],
            env={**_surroundings(), "PYTHONPATH": _import_path(), **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._heard = threading.Condition()
        self._ended = False
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends it, whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
        self.wait()

    # --- what it says

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._heard:
                self.lines.append(line.rstrip("\n"))
                self._heard.notify_all()
        with self._heard:
            self._ended = True
            self._heard.notify_all()

    @property
    def said(self) -> str:
        with self._heard:
            return "\n".join(self.lines)

    def hears(self, pattern: str, *, timeout: float = 120.0) -> re.Match[str]:
        """Waits for a line; returns the match in it."""
        deadline = time.monotonic() + timeout
        with self._heard:
            while True:
                for line in self.lines:
                    if found := re.search(pattern, line):
                        return found
                left = deadline - time.monotonic()
                assert not self._ended, f"the server ended, and never said {pattern!r}, but:\n" + "\n".join(self.lines)
                assert left > 0, f"the server did not say {pattern!r}, but:\n" + "\n".join(self.lines)
                self._heard.wait(left)

    def until_ready(self) -> Self:
        self.hears(r": ready$")
        return self

    @property
    def target(self) -> str:
        return self.hears(r"gRPC on (\S+)$")[1]

    @property
    def http(self) -> str:
        return self.hears(r"metrics on (http://\S+)/metrics$")[1]

    # --- what it shows

    def get(self, path: str) -> tuple[int, str]:
        """Returns status and body of a page on its HTTP port."""
        try:
            with urlopen(self.http + path, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metrics(self) -> Metrics:
        status, text = self.get("/metrics")
        assert status == 200
        return Metrics(text)

    def at_rest(self) -> None:
        """Waits until no call is under way."""
        eventually(lambda: self.metrics().total("grpc_server_in_flight") == 0, what="no call in flight")

    def resident_bytes(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def forget_peak(self) -> None:
        """Lets `peak_bytes` begin anew at what is resident now."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def peak_bytes(self) -> int:
        """Returns the most bytes that were resident at once."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found
        return int(found[1]) << 10

    # --- how it ends

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, timeout: float = 60.0) -> int:
        """Waits until it has ended; returns its exit code."""
        code = self.process.wait(timeout)
        self._listener.join(timeout)
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        with contextlib.suppress(ValueError):  # it was closed when this was called before
            assert self.process.stdout.read() == ""
        self.process.stdout.close()
        self.process.stderr.close()
        return code

    def stop(self) -> int:
        """Asks it to end, as Kubernetes does, and returns its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()


@contextlib.contextmanager
def serving(models: Mapping[str, Path], *options: str, **settings: Any) -> Iterator[ServerProcess]:
    """Gives a server that has loaded its models."""
    with ServerProcess(models, *options, **settings) as server:
        yield server.until_ready()
