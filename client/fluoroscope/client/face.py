"""What both faces of the client are: a place to call, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fluoroscope.client.channel import Destination

if TYPE_CHECKING:
    from pathlib import Path

    import grpc

    from fluoroscope.client.channel import Options


class Face:
    """A client of one server. Its calls, blocking or not, are its subclasses'."""

    def __init__(
        self,
        target: str = "127.0.0.1:8500",
        *,
        timeout: float | None = 60.0,
        token: str | None = None,
        root_certificates: bytes | str | Path | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        options: Options = (),
    ) -> None:
        """Makes a client; nothing is sent yet.

        Args:
            target: The address of the server: `HOST:PORT`, `unix:PATH`, or what else gRPC resolves.
            timeout: How many seconds a call may take that does not say so itself. None means as long as
                it takes.
            token: A bearer token to show with every call. It is encrypted only if the connection is.
            root_certificates: Encrypt, and trust servers that these certificates vouch for: PEM, or the
                path of a file of it.
            credentials: Encrypt in another way: `grpc.ssl_channel_credentials()` trusts the certificates
                that gRPC ships, and takes a certificate of one's own for mutual TLS.
            options: More channel arguments for gRPC.
        """
        self._destination = Destination.to(
            target,
            timeout=timeout,
            token=token,
            root_certificates=root_certificates,
            credentials=credentials,
            options=options,
        )

    def __repr__(self) -> str:
        """Returns the client for people: `Client('127.0.0.1:8500')`."""
        return f"{type(self).__name__}({self._destination.target!r})"
