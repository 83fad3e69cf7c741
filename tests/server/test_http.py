"""The HTTP port, as Prometheus, Kubernetes and strangers use it."""

from __future__ import annotations

import http.client
import socket
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from fluoroscope_server.errors import SettingsError
from fluoroscope_server.http import MOST_CONNECTIONS, HttpServer
from fluoroscope_server.metrics import Metrics
from fluoroscope_server.settings import split_address

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Served:
    """A server whose readiness a test decides."""

    ready: bool = False
    server: HttpServer = field(init=False)

    def __post_init__(self) -> None:
        self.server = HttpServer("127.0.0.1:0", Metrics(), lambda: self.ready)

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str, bytes]:
        """Returns the status, the content type and the body."""
        connection = http.client.HTTPConnection(*split_address(self.server.address), timeout=20)
        try:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            return response.status, response.headers["Content-Type"], response.read()
        finally:
            connection.close()


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served()
    yield made
    made.server.close()


def test_health_and_readiness(served: Served) -> None:
    assert served.ask("/healthz") == (200, "text/plain; charset=utf-8", b"ok\n")
    status, _, body = served.ask("/readyz")
    assert (status, body) == (503, b"not ready: loading models, or draining\n")
    served.ready = True
    assert served.ask("/readyz?verbose")[::2] == (200, b"ready\n")
    served.ready = False
    assert served.ask("/readyz")[0] == 503
    assert served.ask("/healthz")[0] == 200


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("text/plain;version=0.0.4", "text/plain"),
        ("application/openmetrics-text;version=1.0.0", "application/openmetrics-text"),
    ],
)
def test_metrics(accept: str, content_type: str, served: Served) -> None:
    status, came, body = served.ask("/metrics", Accept=accept)
    assert status == 200
    assert came.startswith(content_type)
    assert b"fluoroscope_compile_seconds_count 0.0" in body
    assert served.ask("/metrics?x=y")[0] == 200  # no Accept at all


def test_head_has_no_body(served: Served) -> None:
    connection = http.client.HTTPConnection(*split_address(served.server.address), timeout=20)
    connection.request("HEAD", "/healthz")
    response = connection.getresponse()
    assert (response.status, response.headers["Content-Length"], response.read()) == (200, "3", b"")
    connection.request("GET", "/healthz")  # on the same connection, which nothing disturbs
    assert connection.getresponse().read() == b"ok\n"
    connection.close()


@pytest.mark.parametrize("path", ["/", "/metric", "/metrics/", "/healthz/live"])
def test_nothing_else(path: str, served: Served) -> None:
    assert served.ask(path)[::2] == (404, b"there is /metrics, /healthz and /readyz\n")


def test_other_methods(served: Served) -> None:
    assert served.ask("/healthz", method="POST")[0] == 501


def test_noise_hurts_nobody(served: Served, capfd: pytest.CaptureFixture[str]) -> None:
    address = split_address(served.server.address)
    for noise in (b"", b"\x00\x01\x02\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET /healthz HTTP/1.1\r\n"):
        with socket.create_connection(address, timeout=20) as stranger:
            stranger.sendall(noise)
    assert served.ask("/healthz")[0] == 200
    assert capfd.readouterr() == ("", "")


def test_answers_while_another_connection_is_open(served: Served) -> None:
    with socket.create_connection(split_address(served.server.address), timeout=20):
        assert served.ask("/healthz")[0] == 200


def test_whoever_says_nothing_makes_room_for_a_probe(served: Served) -> None:
    with ExitStack() as stack:
        address = split_address(served.server.address)
        silent = [
            stack.enter_context(socket.create_connection(address, timeout=20)) for _ in range(2 * MOST_CONNECTIONS)
        ]
        assert served.ask("/healthz")[0] == 200
        assert silent[0].recv(1) == b"", "the first is ended"
        assert threading.active_count() < 2 * MOST_CONNECTIONS
        silent[-1].sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
        assert silent[-1].recv(12) == b"HTTP/1.1 200"


def test_a_port_that_is_taken(served: Served) -> None:
    with pytest.raises(SettingsError, match=r"cannot listen on 127\.0\.0\.1:\d+: Address already in use; is another"):
        HttpServer(served.server.address, Metrics(), lambda: True)


@pytest.mark.parametrize(
    "address", ["no.such.host.invalid:0", "203.0.113.7:0", f"{'a' * 70}..b:0", "unix:/tmp/x", "127.0.0.1"]
)
def test_addresses_that_cannot_be(address: str) -> None:
    with pytest.raises(SettingsError):
        HttpServer(address, Metrics(), lambda: True)


def test_ipv6() -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    server = HttpServer("[::1]:0", Metrics(), lambda: True)
    host, port = split_address(server.address)
    assert (host, server.address) == ("::1", f"[::1]:{port}")
    connection = http.client.HTTPConnection(host, port, timeout=20)
    connection.request("GET", "/readyz")
    assert connection.getresponse().status == 200
    connection.close()
    server.close()


def test_close_frees_the_port_and_ends_the_thread() -> None:
    served = Served()
    served.ask("/healthz")
    served.server.close()
    assert "http" not in {thread.name for thread in threading.enumerate()}
    HttpServer(served.server.address, Metrics(), lambda: True).close()
