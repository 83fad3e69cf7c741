"""What all commands share: where the server is, how to speak to it, and for whom to print."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fluoroscope.client import Client

if TYPE_CHECKING:
    from collections.abc import Callable

_KEY = "fluoroscope."


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """The options that every command takes, before its name or behind it."""

    server: str
    """The address of the server."""

    timeout: float
    """How many seconds a call may take."""

    token: str | None
    """The bearer token."""

    root_certificates: Path | None
    """The certificates to trust; None means that nothing is encrypted."""

    json: bool
    """Whether to print for programs."""

    @classmethod
    def current(cls) -> Session:
        """Returns the session of the command that runs."""
        meta = click.get_current_context().meta
        return cls(
            server=meta[_KEY + "server"],
            timeout=meta[_KEY + "timeout"],
            token=meta.get(_KEY + "token"),
            root_certificates=meta.get(_KEY + "root_certificates"),
            json=meta.get(_KEY + "json", False),
        )

    def client(self) -> Client:
        """Returns a client of the server."""
        return Client(self.server, timeout=self.timeout, token=self.token, root_certificates=self.root_certificates)


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
            "--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", default=60.0,
            help="How long a call may take.",
        ),
        option(
            "--token", metavar="TOKEN", envvar="FLUOROSCOPE_TOKEN",
            help="The bearer token to show. Better in the environment, where no process list shows it.",
        ),
        option(
            "--root-certificates", metavar="FILE", envvar="FLUOROSCOPE_ROOT_CERTIFICATES",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="Encrypt, and trust servers that these certificates (PEM) vouch for.",
        ),
        option("--json", is_flag=True, flag_value=True, help="Print JSON, for programs."),
    )  # fmt: skip

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for each in reversed(options):
            command = each(command)
        return command

    return add
