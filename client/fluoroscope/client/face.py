"""What both faces of the client are: a place to call, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fluoroscope.calls import CallCancelledError
from fluoroscope.client.channel import Destination

if TYPE_CHECKING:
    import grpc

    from fluoroscope.client.attempts import Attempts
    from fluoroscope.client.channel import Options
    from fluoroscope.client.credentials import Pem


class Face:
    """A client of one server. Its calls, blocking or not, are its subclasses'."""

    def __init__(
        self,
        target: str = "127.0.0.1:8500",
        *,
        timeout: float | None = None,
        retries: int = 3,
        token: str | None = None,
        root_certificates: Pem | None = None,
        client_certificate: Pem | None = None,
        client_key: Pem | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        allow_insecure_token: bool = False,
        options: Options = (),
    ) -> None:
        """Makes a client; nothing is sent yet.

        Args:
            target: The address of the server: `HOST:PORT`, `unix:PATH`, or what else gRPC resolves.
            timeout: How many seconds a call may take that does not say so itself, all attempts together. None
                means what is usual for its kind: 600 for inspections, comparisons, parameters, plans that are
                compiled, and to load and unload; 300 to become ready; 60 for all else. `math.inf` means as long
                as it takes.
            retries: How often a call is made again that changes nothing, if the server may answer next time.
            token: A bearer token to show with every call.
            root_certificates: Encrypt, and trust servers that these certificates vouch for: PEM, or the
                path of a file of it.
            client_certificate: Encrypt, and show this certificate, for servers that ask for one.
            client_key: Its private key.
            credentials: Encrypt in another way: `grpc.ssl_channel_credentials()` trusts the certificates
                that gRPC ships.
            allow_insecure_token: Show the token to a server on another machine over a connection that is not
                encrypted here: right only where something else encrypts it.
            options: More channel arguments for gRPC.

        Raises:
            InvalidRequestError: An argument is wrong, they contradict each other, or others could read the token.
            OSError: A file of certificates cannot be read.
        """
        self._destination = Destination.to(
            target,
            timeout=timeout,
            retries=retries,
            token=token,
            root_certificates=root_certificates,
            client_certificate=client_certificate,
            client_key=client_key,
            credentials=credentials,
            allow_insecure_token=allow_insecure_token,
            options=options,
        )

        self._closed = False

    def __repr__(self) -> str:
        """Returns the client for people: `Client('127.0.0.1:8500')`."""
        return f"{type(self).__name__}({self._destination.target!r})"

    def _check_open(self, attempts: Attempts | None = None) -> None:
        if not self._closed:
            return
        if attempts is not None and attempts.paused:
            text = f"this client of {self._destination.target} was closed before the call was answered"
            raise CallCancelledError(text, reason="CANCELLED")
        raise ValueError(f"this client of {self._destination.target} is closed: make another one")
