from __future__ import annotations

import math
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest

import fluoroscope
from fluoroscope.calls import Exchange
from fluoroscope.client.channel import Destination

from ...authority import Authority
from ...lacking import program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.client.conftest import Face

SERVING = b"\x08\x01"


def to(
    target: str = "node:8500", *, timeout: float | None = 60.0, options: tuple[tuple[str, int], ...] = ()
) -> Destination:
    return Destination.to(target, timeout=timeout, options=options)


@pytest.mark.parametrize(
    ("own", "clients", "expected"),
    [
        *((None, 40.0, 40.0), (0.5, 40.0, 0.5), (None, None, 60.0)),
        *((None, math.inf, None), (math.inf, 40.0, None), (1e300, 40.0, None)),
    ],
)
def test_a_call_without_its_own_timeout_has_the_clients(
    own: float | None, clients: float | None, expected: float | None
) -> None:
    attempts = to(timeout=clients).attempts(Exchange(method="/m", request=b"", timeout=own))
    assert attempts.terms()["timeout"] == (None if expected is None else pytest.approx(expected, abs=0.4))


@pytest.mark.parametrize("timeout", [0, -1.0, math.nan, -math.inf, "5"])
def test_a_timeout_that_is_none(timeout: Any) -> None:
    with pytest.raises(fluoroscope.InvalidRequestError, match=r"timeout is .*; expected more than 0 seconds"):
        to(timeout=timeout)
    with pytest.raises(fluoroscope.InvalidRequestError, match=r"timeout is .*; expected more than 0 seconds"):
        to().attempts(Exchange(method="/m", request=b"", timeout=timeout))


@pytest.mark.parametrize("retries", [-1, 1.5, math.inf, None])
def test_a_number_of_retries_that_is_none(retries: Any) -> None:
    with pytest.raises(fluoroscope.InvalidRequestError, match=r"retries is .*; expected a whole number from 0"):
        fluoroscope.Client(retries=retries)


@pytest.mark.parametrize(
    ("target", "direct"),
    [
        ("127.0.0.1:8500", True),
        ("localhost:8500", True),
        ("[::1]:8500", True),
        ("unix:/run/fluoroscope.sock", True),
        ("node:8500", False),
        ("10.0.0.7:8500", False),
        ("dns:///node:8500", False),
    ],
)
def test_no_proxy_stands_between_this_machine_and_itself(target: str, direct: bool) -> None:
    assert (("grpc.enable_http_proxy", 0) in to(target).options) == direct


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("127.0.0.1:99999", "expected a port from 1 to 65535"),
        ("node:0", "expected a port from 1 to 65535"),
        ("[::1]:65536", "expected a port from 1 to 65535"),
        ("dns:///node:123456789012", "expected a port from 1 to 65535"),
        ("http://localhost:8500/", "expected HOST:PORT, such as 'localhost:8500'"),
        ("", "expected the address of a server, such as 'localhost:8500'"),
        (8500, "expected the address of a server, such as 'localhost:8500'"),
    ],
)
def test_an_address_that_is_none(target: Any, expected: str) -> None:
    """For gRPC, port 99999 is 34463."""
    with pytest.raises(fluoroscope.InvalidRequestError, match=f"^target is {re.escape(repr(target))}; {expected}$"):
        to(target)


@pytest.mark.parametrize("target", ["[::1]:1", "node:65535", "ipv4:10.0.0.1:8500", "unix:/run/a:99999", "dns:///node"])
def test_every_kind_of_address(target: str) -> None:
    assert to(target).target == target


def test_options_of_ones_own_come_last_and_so_win() -> None:
    assert to(options=(("grpc.keepalive_time_ms", 7),)).options[-1] == ("grpc.keepalive_time_ms", 7)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost that vouches for itself, and `key.pem` beside it."""
    program("openssl", "openssl")
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    files = ["-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run([*command.split(), *files], cwd=folder, check=True, capture_output=True, timeout=60)
    return folder / "cert.pem"


@pytest.fixture
def encrypted(certificate: Path) -> Iterator[str]:
    """The address of a server that speaks only TLS, and says that it is ready."""
    watch: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_stream_rpc_method_handler(
        lambda _request, _context: iter([SERVING])
    )
    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Watch": watch})])
    pair = (certificate.with_name("key.pem").read_bytes(), certificate.read_bytes())
    port = server.add_secure_port("localhost:0", grpc.ssl_server_credentials([pair]))
    server.start()
    yield f"localhost:{port}"
    server.stop(None).wait(10)


@pytest.mark.parametrize("given", [Path, str, Path.read_bytes, Path.read_text], ids=["path", "name", "bytes", "text"])
def test_tls_with_certificates_of_ones_own(
    connect: Callable[..., Face], encrypted: str, certificate: Path, given: Callable[[Path], object]
) -> None:
    connect(encrypted, root_certificates=given(certificate)).call("wait_ready", timeout=20)


def test_tls_with_credentials(connect: Callable[..., Face], encrypted: str, certificate: Path) -> None:
    credentials = grpc.ssl_channel_credentials(certificate.read_bytes())

    connect(encrypted, credentials=credentials).call("wait_ready", timeout=20)


def test_a_server_that_nobody_vouches_for(connect: Callable[..., Face], encrypted: str) -> None:
    face = connect(encrypted, credentials=grpc.ssl_channel_credentials())

    with pytest.raises(fluoroscope.ConnectionFailedError, match=r"localhost"):
        face.call("models", timeout=20)


def test_a_server_that_encrypts_though_the_client_does_not(connect: Callable[..., Face], encrypted: str) -> None:
    with pytest.raises(fluoroscope.ConnectionFailedError, match=r"if it encrypts, .*--root-certificates"):
        connect(encrypted).call("models", timeout=20)


@pytest.fixture
def mutual(tmp_path: Path) -> Iterator[tuple[str, Authority]]:
    """The address of a server that lets in only whom an authority has signed, and that authority."""
    authority = Authority(tmp_path)
    own = authority.issue("server")
    watch: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_stream_rpc_method_handler(
        lambda _request, _context: iter([SERVING])
    )
    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Watch": watch})])
    credentials = grpc.ssl_server_credentials(
        [(own.key.read_bytes(), own.certificate.read_bytes())], authority.root.read_bytes(), True
    )
    address = f"localhost:{server.add_secure_port('localhost:0', credentials)}"
    server.start()
    yield address, authority
    server.stop(None).wait(10)


def test_a_certificate_of_the_clients_own(connect: Callable[..., Face], mutual: tuple[str, Authority]) -> None:
    address, authority = mutual
    laptop = authority.issue("laptop")
    shown = {"client_certificate": laptop.certificate, "client_key": laptop.key}
    connect(address, root_certificates=authority.root, **shown).call("wait_ready", timeout=20)
    with pytest.raises(fluoroscope.ConnectionFailedError):
        connect(address, root_certificates=authority.root, retries=0).call("models", timeout=20)
