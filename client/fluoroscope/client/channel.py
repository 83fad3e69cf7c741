"""How the channel to a server is made: the same for both faces of the client."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias, TypedDict

import grpc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fluoroscope.calls import Exchange

Options: TypeAlias = "Sequence[tuple[str, str | int]]"
"""Channel arguments of gRPC, such as `("grpc.primary_user_agent", "mine/1.0")`."""

_DEFAULTS: Final = (
    # The server limits what it sends by max_bytes and its own limits; a second one here would only surprise.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # Notices a dead connection while a call is open. Servers by default refuse to be asked more often.
    ("grpc.keepalive_time_ms", 300_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # A server that restarts is found again soon.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
)


class Terms(TypedDict):
    """On which terms a call is made."""

    timeout: float | None
    """How many seconds it may take."""

    metadata: tuple[tuple[str, str], ...]
    """What goes with it."""

    wait_for_ready: bool
    """Whether to wait for a server where there is none yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where calls go, and how they show who makes them."""

    target: str
    """The address: `HOST:PORT`, `unix:PATH`, or any other name that gRPC resolves."""

    timeout: float | None
    """How many seconds a call may take that does not say so itself. None means as long as it takes."""

    token: str | None
    """The bearer token. It goes with every call, readable on the way unless there are credentials."""

    credentials: grpc.ChannelCredentials | None
    """How the connection is encrypted. None means not at all."""

    options: tuple[tuple[str, str | int], ...]
    """The channel arguments, defaults included."""

    @classmethod
    def to(
        cls,
        target: str,
        *,
        timeout: float | None,
        token: str | None,
        root_certificates: bytes | str | Path | None,
        credentials: grpc.ChannelCredentials | None,
        options: Options,
    ) -> Destination:
        """Returns the destination that the arguments of a client describe.

        Raises:
            OSError: The file of root certificates cannot be read.
        """
        if credentials is None and root_certificates is not None:
            pem = root_certificates if isinstance(root_certificates, bytes) else _read(root_certificates)
            credentials = grpc.ssl_channel_credentials(root_certificates=pem)
        # A proxy from the environment can hardly be the way to this machine itself.
        direct = (("grpc.enable_http_proxy", 0),) if _is_loopback(target) else ()
        return cls(
            target=target,
            timeout=timeout,
            token=token,
            credentials=credentials,
            options=(*_DEFAULTS, *direct, *options),
        )

    def terms(self, exchange: Exchange) -> Terms:
        """Returns on which terms a call is made: the arguments of gRPC beside the request."""
        return {
            "timeout": self.timeout if exchange.timeout is None else exchange.timeout,
            "metadata": () if self.token is None else (("authorization", f"Bearer {self.token}"),),
            "wait_for_ready": exchange.wait_for_ready,
        }


def _read(path: str | Path) -> bytes:
    return Path(path).read_bytes()


def _is_loopback(target: str) -> bool:
    host = target.rpartition(":")[0].strip("[]")
    if host in {"localhost", "unix"} or target.startswith("unix:"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
