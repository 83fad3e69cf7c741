"""Tokens and certificates: what a client refuses to be made with, and what it never shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest

import fluoroscope
from fluoroscope.cli.session import Session
from fluoroscope.client.channel import Destination

if TYPE_CHECKING:
    from pathlib import Path

TOKEN = "fluoroscope_hunter2"


@pytest.mark.parametrize("target", ["node:8500", "10.0.0.7:8500", "dns:///node:8500", "localhost.example:8500"])
def test_a_token_goes_to_no_other_machine_unencrypted(target: str) -> None:
    with pytest.raises(fluoroscope.InvalidRequestError, match=r"unencrypted.*root_certificates=") as caught:
        fluoroscope.Client(target, token=TOKEN)
    assert caught.value.reason == "INSECURE_TOKEN"
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    ("target", "settings"),
    [
        ("localhost:8500", {}),
        ("127.0.0.1:8500", {}),
        ("[::1]:8500", {}),
        ("unix:/run/fluoroscope", {}),
        ("node:8500", {"credentials": grpc.ssl_channel_credentials()}),
        ("node:8500", {"root_certificates": b"-----BEGIN CERTIFICATE-----"}),
        ("node:8500", {"allow_insecure_token": True}),
    ],
)
def test_where_a_token_may_go(target: str, settings: dict[str, Any]) -> None:
    assert Destination.to(target, token=TOKEN, **settings).token == TOKEN


@pytest.mark.parametrize("token", ["", "two words", "line\n", "\x00", "tokén", " fluoroscope_x"])
def test_what_is_no_token_is_not_repeated(token: str) -> None:
    """gRPC would refuse it as well, and quote it."""
    with pytest.raises(fluoroscope.InvalidRequestError, match="the token is none") as caught:
        fluoroscope.Client("localhost:8500", token=token)
    assert not token or token not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"client_certificate": b"PEM"}, "go together"),
        ({"client_key": b"PEM"}, "go together"),
        ({"root_certificates": b"PEM", "credentials": grpc.ssl_channel_credentials()}, "not both"),
    ],
)
def test_arguments_that_contradict_each_other(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(fluoroscope.InvalidRequestError, match=message):
        fluoroscope.Client("localhost:8500", **settings)


CERTIFICATE, KEY = b"-----BEGIN CERTIFICATE-----", b"-----BEGIN EC PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"root_certificates": b"\x30\x82DER"}, "there is no certificate in root_certificates: expected PEM"),
        ({"root_certificates": b""}, "there is no certificate in root_certificates"),
        ({"root_certificates": KEY.decode()}, "there is no certificate in root_certificates"),
        ({"client_certificate": KEY, "client_key": KEY}, "there is no certificate in client_certificate"),
        ({"client_certificate": CERTIFICATE, "client_key": CERTIFICATE}, "there is no private key in client_key"),
    ],
)
def test_what_is_no_pem_of_its_kind(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(fluoroscope.InvalidRequestError, match=message):
        fluoroscope.Client("localhost:8500", **settings)


def test_a_file_that_is_no_pem_is_named(tmp_path: Path) -> None:
    file = tmp_path / "roots.pem"
    file.write_text("my roots")
    for given in (file, str(file)):
        with pytest.raises(
            fluoroscope.InvalidRequestError, match=r"no certificate in root_certificates \('.*roots.pem'\)"
        ):
            fluoroscope.Client("localhost:8500", root_certificates=given)


def test_no_representation_shows_the_token() -> None:
    session = Session(
        server="localhost:8500",
        timeout=None,
        retries=3,
        token=TOKEN,
        root_certificates=None,
        client_certificate=None,
        client_key=None,
        allow_insecure_token=False,
        json=False,
    )
    client = session.client()
    for each in (session, client, vars(client)):
        assert TOKEN not in repr(each)
    client.close()
