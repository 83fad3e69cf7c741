"""What all commands share: where the server is, how to speak to it, and for whom to print."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fluoroscope.calls import InvalidRequestError
from fluoroscope.cli.unreadable import unreadable
from fluoroscope.client import Client

if TYPE_CHECKING:
    from collections.abc import Callable

_KEY = "fluoroscope."
_FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """The options that every command takes, before its name or behind it."""

    server: str
    """The address of the server."""

    timeout: float | None
    """How many seconds a call may take; None means what is usual for its kind."""

    retries: int
    """How often a call may be made again."""

    token: str | None = field(repr=False)
    """The bearer token."""

    root_certificates: Path | None
    """The certificates to trust; None means those that gRPC ships, if anything is encrypted."""

    client_certificate: Path | None
    """The certificate to show; None shows none."""

    client_key: Path | None
    """Its private key."""

    allow_insecure_token: bool
    """Whether others may read the token on its way."""

    json: bool
    """Whether to print for programs."""

    @classmethod
    def current(cls) -> Session:
        """Returns the session of the command that runs."""
        meta = click.get_current_context().meta
        return cls(
            server=meta[_KEY + "server"],
            timeout=meta.get(_KEY + "timeout"),
            retries=meta[_KEY + "retries"],
            token=_token(meta.get(_KEY + "token_file")) or meta.get(_KEY + "token"),
            root_certificates=meta.get(_KEY + "root_certificates"),
            client_certificate=meta.get(_KEY + "client_certificate"),
            client_key=meta.get(_KEY + "client_key"),
            allow_insecure_token=meta.get(_KEY + "allow_insecure_token", False),
            json=meta.get(_KEY + "json", False),
        )

    def client(self) -> Client:
        """Returns a client of the server.

        Raises:
            click.UsageError: The options contradict each other, or a file of certificates cannot be read.
        """
        if not self.server.strip():
            raise click.BadParameter("it is empty; expected HOST:PORT.", param_hint="--server")
        try:
            return Client(
                self.server,
                timeout=self.timeout,
                retries=self.retries,
                token=self.token,
                root_certificates=self.root_certificates,
                client_certificate=self.client_certificate,
                client_key=self.client_key,
                allow_insecure_token=self.allow_insecure_token,
            )
        except InvalidRequestError as error:
            raise click.UsageError(f"{error}.") from None
        except OSError as error:
            raise unreadable(error.filename or "a file of certificates", error) from None


def _token(path: Path | None) -> str | None:
    """Returns the token in a file."""
    if path is None:
        return None
    try:
        token = path.read_text("utf-8", "replace").strip()
    except OSError as error:
        raise unreadable(path, error) from None
    if not token:
        raise click.BadParameter(f"{path} is empty.", param_hint="--token-file")
    return token


def session_options(*, outermost: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds the options of a session to a command; the outermost one has their defaults."""

    def keep(context: click.Context, parameter: click.Parameter, value: object) -> None:
        if value is not None:
            context.meta[f"{_KEY}{parameter.name}"] = value

    def option(
        *names: str, default: object = None, envvar: str | None = None, **settings: Any
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        if outermost:
            settings |= {"default": default, "show_default": default is not None}
            settings |= {"envvar": envvar, "show_envvar": envvar is not None}
        else:
            settings["default"] = None
        return click.option(*names, callback=keep, expose_value=False, **settings)

    options = (
        option(
            "--server", "-s", metavar="HOST:PORT", default="127.0.0.1:8500", envvar="FLUOROSCOPE_SERVER",
            help="The address of the server.",
        ),
        option(
            "--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
            help="How long a call may take.  [default: 600 where values are captured, programs compiled or"
            " models loaded, 60 for all else]",
        ),
        option(
            "--retries", type=click.IntRange(min=0), metavar="N", default=3,
            help="How often a call is made again if the server may answer next time.",
        ),
        option(
            "--token", metavar="TOKEN", envvar="FLUOROSCOPE_TOKEN",
            help="The bearer token to show. Better in the environment or a file: a process list shows it here.",
        ),
        option(
            "--token-file", metavar="FILE", envvar="FLUOROSCOPE_TOKEN_FILE", type=_FILE,
            help="A file that holds the token; it comes before --token.",
        ),
        option(
            "--allow-insecure-token", is_flag=True, flag_value=True,
            help="Show the token to another machine unencrypted: right only where something else encrypts.",
        ),
        option(
            "--root-certificates", metavar="FILE", envvar="FLUOROSCOPE_ROOT_CERTIFICATES",
            type=_FILE,
            help="Encrypt, and trust servers that these certificates (PEM) vouch for.",
        ),
        option(
            "--client-certificate", metavar="FILE", envvar="FLUOROSCOPE_CLIENT_CERTIFICATE", type=_FILE,
            help="Encrypt, and show this certificate (PEM) to servers that ask for one.",
        ),
        option(
            "--client-key", metavar="FILE", envvar="FLUOROSCOPE_CLIENT_KEY", type=_FILE,
            help="The private key of that certificate (PEM).",
        ),
        option("--json", is_flag=True, flag_value=True, help="Print JSON, for programs."),
    )  # fmt: skip

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for each in reversed(options):
            command = each(command)
        return command

    return add
