"""What a server shows to the network that it listens on."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

from fluoroscope_server.errors import SettingsError
from fluoroscope_server.settings import split_address

if TYPE_CHECKING:
    from fluoroscope_server.settings import Settings


def check_exposure(settings: Settings) -> list[str]:
    """Returns what the operator should be warned of: a line for each thing that stands open to more than this machine.

    Raises:
        SettingsError: keys are set that protect nothing.
    """
    _check_pairs(settings)
    warnings = []
    if not is_loopback(settings.listen):
        if settings.tokens is not None and settings.tls_certificate is None and not settings.allow_insecure_tokens:
            raise SettingsError(
                f"--tokens without TLS on {settings.listen}: whoever is on the way reads the tokens, and uses them. "
                "Give --tls-certificate and --tls-key, or listen on loopback; where a proxy in front encrypts, say "
                "--allow-insecure-tokens"
            )
        if settings.tls_certificate is None:
            warnings.append(
                f"{settings.listen} is open to the network without TLS: who is on the way reads every request and "
                "answer (--tls-certificate, --tls-key)"
            )
        if settings.tokens is None and settings.tls_client_ca is None:
            warnings.append(
                f"{settings.listen} is open to the network without tokens: whoever reaches it can look inside the "
                "networks, and read their weights (--tokens)"
            )
    if not is_loopback(settings.http_listen) and settings.tokens is not None:
        warnings.append(
            f"{settings.http_listen} asks for no token: whoever reaches it reads the metrics, and in them the names of "
            "the models, their families and the sizes of their weights (--http-listen)"
        )
    return warnings


def _check_pairs(settings: Settings) -> None:
    if (settings.tls_certificate is None) != (settings.tls_key is None):
        given, missing = ("certificate", "key") if settings.tls_key is None else ("key", "certificate")
        raise SettingsError(f"--tls-{given} without --tls-{missing}: TLS needs both")
    if settings.tls_client_ca is not None and settings.tls_certificate is None:
        raise SettingsError(
            "--tls-client-ca without --tls-certificate and --tls-key: clients show theirs over TLS only"
        )


def is_loopback(address: str) -> bool:
    """Returns whether only this machine reaches an address; raises SettingsError if it is none."""
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    host, _ = split_address(address)
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False  # a name that some resolver knows, or every address there is
