"""How the channel to a server is made: the same for both faces of the client."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from fluoroscope.calls import InvalidRequestError
from fluoroscope.calls.argument import whole
from fluoroscope.client.attempts import Attempts, check_timeout
from fluoroscope.client.credentials import channel_credentials, check_token

if TYPE_CHECKING:
    from collections.abc import Sequence

    import grpc

    from fluoroscope.calls import Exchange
    from fluoroscope.client.credentials import Pem

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


_WITH_PORT: Final = re.compile(r"(?!unix)(.*/)?([^:/\[\]]+|\[[^\]]*\]):(?P<port>[0-9]+)")
"""`HOST:PORT`, also behind a scheme."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where calls go, and how they show who makes them."""

    target: str
    """The address: `HOST:PORT`, `unix:PATH`, or any other name that gRPC resolves."""

    timeout: float | None
    """How many seconds a call may take that does not say so itself. None means what is usual for its kind."""

    retries: int
    """How often a call may be made again."""

    token: str | None = field(repr=False)
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
        timeout: float | None = None,
        retries: int = 0,
        token: str | None = None,
        root_certificates: Pem | None = None,
        client_certificate: Pem | None = None,
        client_key: Pem | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        allow_insecure_token: bool = False,
        options: Options = (),
    ) -> Destination:
        """Returns the destination that the arguments of a client describe.

        Raises:
            InvalidRequestError: One is wrong, they contradict each other, or the token would not be safe.
            OSError: A file of certificates cannot be read.
        """
        _check_target(target)
        check_timeout(timeout)
        credentials = channel_credentials(
            root_certificates=root_certificates,
            client_certificate=client_certificate,
            client_key=client_key,
            credentials=credentials,
        )
        if token is not None:
            check_token(
                token,
                encrypted=credentials is not None,
                near=_is_loopback(target),
                allow_insecure=allow_insecure_token,
            )
        # A proxy from the environment can hardly be the way to this machine itself.
        direct = (("grpc.enable_http_proxy", 0),) if _is_loopback(target) else ()
        return cls(
            target=target,
            timeout=timeout,
            retries=whole(retries, "retries", least=0, bits=31),
            token=token,
            credentials=credentials,
            options=(*_DEFAULTS, *direct, *options),
        )

    def attempts(self, exchange: Exchange) -> Attempts:
        """Returns the attempts that a call is given; raises InvalidRequestError if its timeout is none."""
        check_timeout(exchange.timeout)
        timeout = self.timeout if exchange.timeout is None else exchange.timeout
        return Attempts(
            exchange,
            timeout=exchange.patience if timeout is None else timeout,
            retries=self.retries,
            metadata=() if self.token is None else (("authorization", f"Bearer {self.token}"),),
        )


def _check_target(target: Any) -> None:
    """Raises InvalidRequestError for an address that gRPC would take for another one."""
    if not isinstance(target, str) or not target.strip():
        raise InvalidRequestError(f"target is {target!r}; expected the address of a server, such as 'localhost:8500'")
    scheme, found, rest = target.partition("://")
    if found and scheme.lower() in {"http", "https", "grpc", "grpcs"}:
        raise InvalidRequestError(f"target is {target!r}; expected HOST:PORT, such as {rest.rstrip('/')!r}")
    named = _WITH_PORT.fullmatch(target)
    if named and not (len(named["port"]) <= 5 and 1 <= int(named["port"]) <= 65535):
        raise InvalidRequestError(f"target is {target!r}; expected a port from 1 to 65535")


def _is_loopback(target: str) -> bool:
    host = target.rpartition(":")[0].strip("[]")
    if host in {"localhost", "unix"} or target.startswith("unix:"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
