"""Certificates: what is refused at the start, and what connections see when the files change."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2

from fluoroscope_server.errors import SettingsError
from fluoroscope_server.metrics import Metrics
from fluoroscope_server.rpc import RpcServer
from fluoroscope_server.rpc.certificates import Certificates
from fluoroscope_server.serving import Repository
from fluoroscope_server.settings import Settings

from ...authority import Authority, Pair

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

WAIT = 30


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def first(authority: Authority) -> Pair:
    return authority.issue("first")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Pair]:
    """Another authority's own certificate, and one that it signed."""
    other = Authority(tmp_path_factory.mktemp("stranger"), "stranger")
    return other.root, other.issue("second")


@pytest.fixture
def files(first: Pair, tmp_path: Path) -> Pair:
    """The files of a server: as an operator renews them, each is replaced at once."""
    files = Pair(certificate=tmp_path / "tls.crt", key=tmp_path / "tls.key")
    replace(files, first)
    return files


def replace(files: Pair, by: Pair) -> None:
    for old, new in ((files.certificate, by.certificate), (files.key, by.key)):
        beside = old.with_suffix(".new")
        beside.write_bytes(new.read_bytes())
        os.replace(beside, old)  # noqa: PTH105 (the same words as for a shell's mv)


def serve(files: Pair, test: Callable[[str], Awaitable[None]], **settings: Any) -> None:
    """Runs a test against a server with these files; gives it the address."""

    async def main() -> None:
        chosen = Settings(models=(), tls_certificate=files.certificate, tls_key=files.key, **settings)
        server = RpcServer(Repository(), Metrics(), chosen)
        address = await server.start("127.0.0.1:0")
        try:
            await test(address)
        finally:
            await server.drain(0)

    asyncio.run(asyncio.wait_for(main(), 2 * WAIT))


class Connection:
    """A connection of its own to a server."""

    def __init__(self, address: str, root: Path, pair: Pair | None = None) -> None:
        shown = (pair.key.read_bytes(), pair.certificate.read_bytes()) if pair is not None else (None, None)
        credentials = grpc.ssl_channel_credentials(root.read_bytes(), *shown)
        alone = (("grpc.use_local_subchannel_pool", 1),)
        self.channel = grpc.aio.secure_channel(address, credentials, options=alone)

    async def healthy(self) -> bool:
        """Returns whether the server answers a call on this connection."""
        call: Any = self.channel.unary_unary("/grpc.health.v1.Health/Check")
        try:
            answer = await call(b"", timeout=WAIT)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                return False
            raise
        assert health_pb2.HealthCheckResponse.FromString(answer).status == health_pb2.HealthCheckResponse.NOT_SERVING
        return True


async def connects(address: str, root: Path, pair: Pair | None = None) -> bool:
    """Returns whether a new connection that trusts a root is made."""
    connection = Connection(address, root, pair)
    try:
        return await connection.healthy()
    finally:
        await connection.channel.close()


def test_new_certificates_are_shown_to_new_connections_and_old_ones_go_on(
    files: Pair, authority: Authority, stranger: tuple[Path, Pair], caplog: pytest.LogCaptureFixture
) -> None:
    other_root, second = stranger

    async def test(address: str) -> None:
        kept = Connection(address, authority.root)
        assert await kept.healthy()
        assert not await connects(address, other_root)

        replace(files, second)
        assert await connects(address, other_root)
        assert not await connects(address, authority.root)
        assert await kept.healthy(), "the connection that was there is as it was"

        caplog.clear()
        files.key.write_text("torn")
        for _ in range(2):
            assert await connects(address, other_root), "what was read before stays in force"
        (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
        assert record.message.startswith(f"{files.key} holds no private key (PEM): ")
        assert "What was read before stays in force" in record.message
        files.certificate.unlink()
        assert await connects(address, other_root)

        files.certificate.write_bytes(second.certificate.read_bytes())
        files.key.write_bytes(second.key.read_bytes())
        assert await connects(address, other_root)
        await kept.channel.close()

    serve(files, test)


def test_a_key_that_comes_after_its_certificate_leaves_no_gap(
    files: Pair, authority: Authority, stranger: tuple[Path, Pair]
) -> None:
    other_root, second = stranger

    async def test(address: str) -> None:
        files.certificate.write_bytes(second.certificate.read_bytes())
        assert await connects(address, authority.root), "half of the pair is not taken"
        files.key.write_bytes(second.key.read_bytes())
        assert await connects(address, other_root)

    serve(files, test)


def test_clients_show_certificates_where_an_authority_is_named(
    files: Pair, authority: Authority, stranger: tuple[Path, Pair], tmp_path: Path
) -> None:
    laptop = authority.issue("laptop")
    tokens = tmp_path / "tokens.toml"
    tokens.write_text('[[token]]\nname = "ada"\ncertificate = "laptop"\nscopes = ["predict"]\n')
    tokens.chmod(0o600)

    async def test(address: str) -> None:
        assert await connects(address, authority.root, laptop)
        assert not await connects(address, authority.root)
        assert not await connects(address, authority.root, stranger[1])
        for pair, code in ((laptop, "NOT_FOUND"), (authority.issue("unknown"), "UNAUTHENTICATED")):
            connection = Connection(address, authority.root, pair)
            call: Any = connection.channel.unary_unary("/fluoroscope.v1.InferenceService/Predict")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(b"\x0a\x01m", timeout=WAIT)
            assert caught.value.code().name == code
            await connection.channel.close()

    serve(files, test, tls_client_ca=authority.root, tokens=tokens)


def test_another_authority_of_clients(
    files: Pair, authority: Authority, stranger: tuple[Path, Pair], tmp_path: Path
) -> None:
    """From when its certificate lies in the file, new connections are asked for one that it has signed."""
    laptop, (other_root, other) = authority.issue("laptop"), stranger
    trusted = tmp_path / "clients.crt"
    trusted.write_bytes(authority.root.read_bytes())

    async def test(address: str) -> None:
        assert await connects(address, authority.root, laptop)
        assert not await connects(address, authority.root, other)
        trusted.write_bytes(other_root.read_bytes())
        assert await connects(address, authority.root, other)
        assert not await connects(address, authority.root, laptop)

    serve(files, test, tls_client_ca=trusted)


@pytest.mark.parametrize(
    ("which", "text", "message"),
    [
        ("certificate", None, r"tls\.crt cannot be read: No such file"),
        ("certificate", "", r"tls\.crt holds no certificate \(PEM\): "),
        ("certificate", "torn", r"tls\.crt holds no certificate \(PEM\): "),
        ("key", None, r"tls\.key cannot be read: No such file"),
        ("key", "torn", r"tls\.key holds no private key \(PEM\): "),
    ],
)
def test_files_that_are_refused(files: Pair, which: str, text: str | None, message: str) -> None:
    file: Path = getattr(files, which)
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
    with pytest.raises(SettingsError, match=message):
        Certificates(files.certificate, files.key, None)


def test_a_key_of_another_certificate(files: Pair, stranger: tuple[Path, Pair]) -> None:
    with pytest.raises(SettingsError, match=r"the key in .*second\.key is not that of .*tls\.crt"):
        Certificates(files.certificate, stranger[1].key, None)


def test_a_key_with_a_passphrase(files: Pair) -> None:
    command: list[str | Path] = [
        "openssl",
        "ec",
        "-aes256",
        "-passout",
        "pass:open sesame",
        "-in",
        files.key,
        "-out",
        files.key,
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    with pytest.raises(SettingsError, match=r"the key in .*tls\.key is encrypted"):
        Certificates(files.certificate, files.key, None)


def test_an_authority_that_is_none(files: Pair) -> None:
    with pytest.raises(SettingsError, match=r"tls\.key holds no certificate \(PEM\): "):
        Certificates(files.certificate, files.key, files.key)
    with pytest.raises(SettingsError, match=r"nothing cannot be read: No such file"):
        Certificates(files.certificate, files.key, files.key.with_name("nothing"))
