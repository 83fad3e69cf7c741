"""Tokens and certificates: what a client refuses to be made with, and what it never shows."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

import fluoroscope
from fluoroscope.cli.session import Session
from fluoroscope.client.channel import Destination

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
        ("node:8500", {"root_certificates": b"PEM"}),
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
