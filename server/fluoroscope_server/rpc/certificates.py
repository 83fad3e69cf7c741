"""The certificates that the port shows and asks for, from files that may change while it is open."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import grpc

from fluoroscope_server.errors import SettingsError
from fluoroscope_server.keys import Watched

if TYPE_CHECKING:
    from pathlib import Path


class Certificates:
    """Shows each new connection what the files hold then; connections that are there stay as they are."""

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        """Reads the files.

        Raises:
            SettingsError: one cannot be read or is not what it should be, or the key is not the certificate's.
        """
        self._certificate = certificate
        self._key = key
        self._client_ca = client_ca
        self._files = [certificate, key, *([client_ca] if client_ca is not None else ())]
        self._watched = Watched(self._files, self._read)

    def credentials(self) -> grpc.ServerCredentials:
        """Returns the credentials of a port; with a client CA, clients must show a certificate that it signed."""
        return grpc.dynamic_ssl_server_credentials(
            self._watched.value,
            self._renewed,  # type: ignore[arg-type]  # may return None, though the stub denies it
            require_client_authentication=self._client_ca is not None,
        )

    def _renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """Returns what is new, if something is: gRPC asks on a thread of its own, before every handshake."""
        return self._watched.value if self._watched.renew() else None

    def _read(self) -> grpc.ServerCertificateConfiguration:
        """Returns what the files hold, checked: gRPC would say nothing of what is wrong, and take no connection."""
        certificate, key, *roots = map(_bytes, self._files)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _load_certificates(context, self._certificate)
        try:
            context.load_cert_chain(self._certificate, self._key, password=self._no_password)
        except OSError as error:
            if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
                raise SettingsError(f"the key in {self._key} is not that of {self._certificate}") from error
            raise SettingsError(f"{self._key} holds no private key (PEM): {_cause(error)}") from error
        if self._client_ca is not None:
            _load_certificates(context, self._client_ca)
        return grpc.ssl_server_certificate_configuration([(key, certificate)], roots[0] if roots else None)

    def _no_password(self) -> str:
        raise SettingsError(f"the key in {self._key} is encrypted, and gRPC takes none that is: store it as it is")


def _load_certificates(context: ssl.SSLContext, path: Path) -> None:
    try:
        context.load_verify_locations(path)
    except OSError as error:
        raise SettingsError(f"{path} holds no certificate (PEM): {_cause(error)}") from error


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error


def _cause(error: OSError) -> str:
    """Returns the cause in OpenSSL's words, without a place in its source: ssl.SSLError is an OSError."""
    reason = getattr(error, "reason", None)
    return str(reason).lower().replace("_", " ") if reason else error.strerror or "it cannot be read"
