"""How a client shows who it is, and learns to whom it speaks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, TypeAlias

import grpc

from fluoroscope.calls import InvalidRequestError

Pem: TypeAlias = "bytes | str | Path"
"""PEM itself, or the path of a file of it."""

_BEGIN: Final = "-----BEGIN"


def channel_credentials(
    *,
    root_certificates: Pem | None,
    client_certificate: Pem | None,
    client_key: Pem | None,
    credentials: grpc.ChannelCredentials | None,
) -> grpc.ChannelCredentials | None:
    """Returns what the arguments of a client say of encryption; None if it encrypts nothing.

    Raises:
        InvalidRequestError: They contradict each other, or hold no certificate or no key.
        OSError: A file cannot be read.
    """
    if (client_certificate is None) != (client_key is None):
        raise InvalidRequestError("client_certificate and client_key go together: give both, or none of them")
    if root_certificates is None and client_certificate is None:
        return credentials
    if credentials is not None:
        raise InvalidRequestError("credentials say all of the encryption: give them, or certificates, not both")
    return grpc.ssl_channel_credentials(
        root_certificates=_pem(root_certificates, "root_certificates", "CERTIFICATE"),
        private_key=_pem(client_key, "client_key", "PRIVATE KEY"),
        certificate_chain=_pem(client_certificate, "client_certificate", "CERTIFICATE"),
    )


def check_token(token: str, *, encrypted: bool, near: bool, allow_insecure: bool) -> None:
    """Refuses a token that cannot be sent, or that others could read on the way; its words never repeat it.

    Args:
        token: The token.
        encrypted: Whether the connection is.
        near: Whether the server is on this machine.
        allow_insecure: Whether whoever made the client said that it may be read on the way.

    Raises:
        InvalidRequestError: It is refused.
    """
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidRequestError(
            "the token is none: it must be letters, digits and signs, with no space or line break"
        )
    if not encrypted and not near and not allow_insecure:
        raise InvalidRequestError(
            "a token would be sent to another machine unencrypted, and whoever is on the way could use it: give "
            "root_certificates= (--root-certificates), or, where something else encrypts, allow_insecure_token=True "
            "(--allow-insecure-token)",
            reason="INSECURE_TOKEN",
        )


def _pem(given: Pem | None, name: str, kind: str) -> bytes | None:
    """Returns PEM, whichever way it is given; raises InvalidRequestError if it holds nothing of a kind.

    gRPC would only say that the server cannot be reached.
    """
    if given is None:
        return None
    if isinstance(given, str) and _BEGIN in given:
        given = given.encode()
    pem = given if isinstance(given, bytes) else Path(given).read_bytes()
    if not re.search(f"{_BEGIN} [A-Z0-9 ]*{kind}-----".encode(), pem):
        where = "" if isinstance(given, bytes) else f" ({str(given)!r})"
        raise InvalidRequestError(
            f"there is no {kind.lower()} in {name}{where}: expected PEM, with a line {_BEGIN} {kind}-----, "
            "or the path of a file of it",
            field=name,
        )
    return pem
