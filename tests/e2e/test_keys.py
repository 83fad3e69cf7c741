"""A server with TLS and tokens, as an operator runs it: who gets in, what rotates, and what is never said."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

import fluoroscope
from fluoroscope_server.keys import entry_of, new_token

from ..authority import Authority, Pair
from .conftest import WIDE_ROWS
from .saved import batch
from .server_process import ServerProcess, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .conftest import Saved

INSPECTOR, DASHBOARD, STRANGER, NEW = (new_token() for _ in range(4))
SITES = "activations/*"


class Keyed:
    """A server with keys, and all that its operator has."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self.files = Pair(certificate=folder / "tls.crt", key=folder / "tls.key")
        self.tokens = folder / "tokens.toml"
        self.rotate(self.authority.issue("first"))
        self.write(
            entry_of(INSPECTOR, "inspector", ["predict", "inspect"])
            + entry_of(DASHBOARD, "dashboard", ["predict"], ["relu"])
        )
        self.server: ServerProcess

    def rotate(self, pair: Pair) -> None:
        for old, new in ((self.files.certificate, pair.certificate), (self.files.key, pair.key)):
            old.write_bytes(new.read_bytes())

    def write(self, entries: str) -> None:
        beside = self.tokens.with_suffix(".new")
        beside.write_text(entries)
        beside.chmod(0o600)
        beside.replace(self.tokens)

    @contextlib.contextmanager
    def client(self, token: str | None, root: Path | None = None, **settings: Any) -> Iterator[fluoroscope.Client]:
        alone = (("grpc.use_local_subchannel_pool", 1),)  # a connection of its own
        trusted = self.authority.root if root is None else root
        with fluoroscope.Client(
            self.server.target, token=token, root_certificates=trusted, options=alone, **settings
        ) as client:
            yield client


@pytest.fixture(scope="module")
def keyed(
    checkpoints: Saved, wide_variables: tuple[Path, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Keyed]:
    keyed = Keyed(tmp_path_factory.mktemp("keyed"))
    options = (
        f"--tls-certificate={keyed.files.certificate}",
        f"--tls-key={keyed.files.key}",
        f"--tokens={keyed.tokens}",
    )
    models = {"relu": checkpoints.folders["relu"], "wide": wide_variables[0]}
    with ServerProcess(models, *options, listen="127.0.0.1:0") as server:
        keyed.server = server.until_ready()
        yield keyed
        # The last test ends it; here only what it must never have said is looked for.
        server.process.kill()
        server.wait()
        for secret in (INSPECTOR, DASHBOARD, STRANGER, NEW):
            assert secret not in server.said
            assert secret.removeprefix("fluoroscope_") not in server.said
        assert "Traceback" not in server.said, server.said


def test_tokens_say_who_may_do_what(keyed: Keyed) -> None:
    with keyed.client(INSPECTOR) as client:
        assert client.predict("relu", {"x": batch(1)})["logits"].shape == (1, 5)
        assert "Dense_0" in client.inspect("relu", {"x": batch(1)}, sites="Dense_0")
        assert client.model("relu").site_count > 0
    with keyed.client(DASHBOARD) as client:
        assert client.predict("relu", {"x": batch(1)})["logits"].shape == (1, 5)
        assert [model.name for model in client.models()] == ["relu"]
        assert (client.model("relu").site_count, client.model("relu").family) == (0, "")
        for ask in (
            lambda: client.sites("relu"),
            lambda: client.plan("relu", 1, sites="**"),
            lambda: client.inspect("relu", {"x": batch(1)}, sites="**"),
            lambda: list(client.stream("relu", {"x": batch(1)}, sites="**")),
        ):
            with pytest.raises(fluoroscope.PermissionDeniedError, match="needs the scope 'inspect'") as denied:
                ask()
            assert denied.value.reason == "SCOPE_MISSING"
        with pytest.raises(fluoroscope.PermissionDeniedError, match="for other models than 'wide'"):
            client.predict("wide", {"x": batch(1)})
    for token in (None, STRANGER):
        with keyed.client(token) as client:
            client.wait_ready("relu", timeout=30)  # health is open
            with pytest.raises(fluoroscope.UnauthenticatedError, match="token") as unknown:
                client.predict("relu", {"x": batch(1)})
            assert STRANGER not in str(unknown.value)


def test_nobody_gets_in_unencrypted(keyed: Keyed) -> None:
    with (
        fluoroscope.Client(keyed.server.target, token=INSPECTOR, retries=0, timeout=20) as client,
        pytest.raises(fluoroscope.ConnectionFailedError),
    ):
        client.models()


def test_tokens_change_while_it_runs(keyed: Keyed) -> None:
    before = keyed.tokens.read_text()

    def allowed() -> bool:
        try:
            client.predict("relu", {"x": batch(1)})
        except fluoroscope.UnauthenticatedError:
            return False
        return True

    with keyed.client(NEW) as client:
        assert not allowed()
        keyed.write(before + entry_of(NEW, "new", ["predict"]))
        eventually(allowed, what="a new token is known")
        keyed.write(f"{before}\n[[token")
        words = "What was read before stays in force"
        eventually(lambda: not allowed() or words in keyed.server.said, what="the server says that a file is broken")
        assert f"{keyed.tokens} are not TOML" in keyed.server.said
        assert allowed()
        keyed.write(before)
        eventually(lambda: not allowed(), what="an old token is forgotten")


def test_certificates_change_while_a_stream_runs(keyed: Keyed, tmp_path: Path) -> None:
    second = Authority(tmp_path, "second")
    with keyed.client(INSPECTOR) as client:
        stream = client.stream("wide", {"x": batch(WIDE_ROWS)}, sites=SITES, timeout=120)
        first = next(stream).site
        keyed.rotate(second.issue("renewed"))
        with keyed.client(INSPECTOR, second.root) as other:
            assert other.predict("relu", {"x": batch(1)})["logits"].shape == (1, 5)
        with keyed.client(INSPECTOR, retries=0) as late, pytest.raises(fluoroscope.ConnectionFailedError):
            late.models()
        sites = [first, *(each.site for each in stream)]
        assert sites == [f"activations/{index}" for index in range(11)], "the stream did not notice"
        assert client.predict("relu", {"x": batch(1)})["logits"].shape == (1, 5), "nor did its connection"
    keyed.rotate(Pair(certificate=tmp_path / "renewed.pem", key=tmp_path / "renewed.key"))
    keyed.authority = second


def test_a_stream_whose_server_is_killed_says_what_had_come(keyed: Keyed) -> None:
    """It comes last, and ends the server."""
    with keyed.client(INSPECTOR) as client:
        stream = client.stream("wide", {"x": batch(WIDE_ROWS)}, sites=SITES, timeout=120)
        whole = [next(stream).site]
        os.kill(keyed.server.process.pid, signal.SIGKILL)
        with pytest.raises(fluoroscope.FluoroscopeError) as broken:
            whole += [each.site for each in stream]
    assert isinstance(broken.value, (fluoroscope.ConnectionFailedError, fluoroscope.CallCancelledError))
    arrived = broken.value.arrived
    assert arrived is not None
    assert arrived.complete == tuple(whole)
    partial = () if arrived.partial is None else (arrived.partial,)
    assert (*arrived.complete, *partial, *arrived.missing) == tuple(f"activations/{index}" for index in range(11))
    assert arrived.missing
    if partial:
        assert 0 < arrived.partial_bytes < arrived.partial_size
    assert f"{len(whole)} of 11 results had come whole" in str(broken.value)
