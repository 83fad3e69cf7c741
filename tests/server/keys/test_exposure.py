"""What stands open to the network, and what an operator is told of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fluoroscope_server.errors import SettingsError
from fluoroscope_server.keys import check_exposure
from fluoroscope_server.keys.exposure import is_loopback
from fluoroscope_server.settings import Settings

TLS = {"tls_certificate": Path("c"), "tls_key": Path("k")}
TOKENS = {"tokens": Path("t")}
OPEN = {"listen": "0.0.0.0:8500"}


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:1", True),
        ("127.1.2.3:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("unix:/run/x", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        (":1", False),
        ("10.0.0.1:1", False),
        ("localhost.example:1", False),
    ],
)
def test_loopback(address: str, expected: bool) -> None:
    assert is_loopback(address) is expected


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        ({}, []),
        (TOKENS, []),
        ({"listen": "unix:/run/x"}, []),
        (OPEN, ["without TLS", "without tokens"]),
        (OPEN | TLS, ["without tokens"]),
        (OPEN | TLS | {"tls_client_ca": Path("a")}, []),
        (OPEN | TLS | TOKENS, []),
        (OPEN | TOKENS | {"allow_insecure_tokens": True}, ["without TLS"]),
        ({"http_listen": "0.0.0.0:8501"}, []),
        (TOKENS | {"http_listen": "0.0.0.0:8501"}, ["families and the sizes of their weights"]),
    ],
)
def test_warnings(settings: dict[str, Any], warned: list[str]) -> None:
    warnings = check_exposure(Settings(models=(), **settings))
    assert len(warnings) == len(warned)
    for warning, words in zip(warnings, warned, strict=True):
        assert words in warning
        assert "0.0.0.0" in warning


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (OPEN | TOKENS, "--tokens without TLS on 0.0.0.0:8500: .* --allow-insecure-tokens"),
        ({"tls_certificate": Path("c")}, "--tls-certificate without --tls-key"),
        ({"tls_key": Path("c")}, "--tls-key without --tls-certificate"),
        ({"tls_client_ca": Path("c")}, "--tls-client-ca without --tls-certificate"),
        ({"listen": "nowhere"}, "'nowhere' is not HOST:PORT"),
    ],
)
def test_what_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        check_exposure(Settings(models=(), **settings))
