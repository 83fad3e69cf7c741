"""The HTTP port: /metrics for Prometheus, /healthz and /readyz for whoever keeps the server running."""

from __future__ import annotations

import contextlib
import socket
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import TYPE_CHECKING, Any, ClassVar

from fluoroscope_server.errors import SettingsError
from fluoroscope_server.settings import split_address

if TYPE_CHECKING:
    from collections.abc import Callable

    from fluoroscope_server.metrics import Metrics

TEXT = "text/plain; charset=utf-8"

MOST_CONNECTIONS = 64
"""So many connections, and threads, there may be; whoever comes then takes the place of the one that came first."""


class HttpServer:
    """Answers on threads of its own, so that a scrape is served even while the event loop is busy."""

    def __init__(self, address: str, metrics: Metrics, is_ready: Callable[[], bool]) -> None:
        """Listens; raises SettingsError if the address is wrong or taken."""

        def render(path: str, accept: str) -> tuple[HTTPStatus, str, bytes]:
            if path == "/metrics":
                return HTTPStatus.OK, *metrics.render(accept)
            if path == "/healthz":
                return HTTPStatus.OK, TEXT, b"ok\n"
            if path == "/readyz" and is_ready():
                return HTTPStatus.OK, TEXT, b"ready\n"
            if path == "/readyz":
                return HTTPStatus.SERVICE_UNAVAILABLE, TEXT, b"not ready: loading models, or draining\n"
            return HTTPStatus.NOT_FOUND, TEXT, b"there is /metrics, /healthz and /readyz\n"

        host, port = split_address(address)
        handler = type("Handler", (_Handler,), {"answer": staticmethod(render)})
        try:
            self._server = (_ServerV6 if ":" in host else _Server)((host, port), handler)
        except (OSError, UnicodeError) as error:
            problem = error.strerror if isinstance(error, OSError) else error
            raise SettingsError(f"cannot listen on {address}: {problem}; is another server there?") from error
        self.address = f"{address.rpartition(':')[0]}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = MOST_CONNECTIONS  # of more than these that come at once, some would try again in a second

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._open: dict[Any, None] = {}  # in the order in which they came
        self._lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answers on a thread of its own; of too many connections the oldest ends, so that a probe gets through."""
        with self._lock:
            self._open[request] = None
            if len(self._open) > MOST_CONNECTIONS:
                oldest = next(iter(self._open))
                del self._open[oldest]
                with contextlib.suppress(OSError):  # its client was quicker
                    oldest.shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forgets a connection that ends."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def server_bind(self) -> None:
        """Binds without looking up the name of this machine, which can take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def handle_error(self, request: object, client_address: object) -> None:
        """Says nothing: a scraper that hangs up is no event."""


class _ServerV6(_Server):
    address_family = socket.AF_INET6


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "fluoroscope"
    sys_version = ""
    timeout = 30.0
    answer: ClassVar[Callable[[str, str], tuple[HTTPStatus, str, bytes]]]

    def do_GET(self) -> None:
        """Answers a GET or a HEAD."""
        status, content_type, body = type(self).answer(self.path.partition("?")[0], self.headers.get("Accept", ""))
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 (the base class looks for this name)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class names it so)
        """Says nothing: a scrape each few seconds is no event."""
