"""The command line of the server."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fluoroscope_server.allocator import keep_large_buffers
from fluoroscope_server.errors import FluoroscopeError, SettingsError
from fluoroscope_server.keys import Scope, entry_of, new_token
from fluoroscope_server.private_folder import private_folder
from fluoroscope_server.settings import MIB, ModelSource, Settings, default_compile_cache

if TYPE_CHECKING:
    from datetime import datetime

DEFAULTS = Settings(models=())

EPILOG = """\b
Examples:
  fluoroscope-server serve --model digits=checkpoints/digits
  fluoroscope-server serve --model net=ckpt,family=my_pkg.nets:build --listen 127.0.0.1:0

\b
Then, from anywhere:
  fluoroscope models
  fluoroscope sites digits
"""

ISSUE_EPILOG = """\b
Examples:
  fluoroscope-server token dashboard --scope predict --model digits >> tokens.toml
  fluoroscope-server serve --model digits=checkpoints/digits --tokens tokens.toml
"""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="fluoroscope")
def main() -> None:
    """Serves Flax networks from Orbax checkpoints over gRPC, and lets clients look inside them."""


@main.command(epilog=EPILOG)
@click.option(
    "--model",
    "models",
    multiple=True,
    required=True,
    metavar="NAME=PATH[,family=FAMILY]",
    help="A model to serve: its name, and the folder of its Orbax checkpoint, or of a series of them, of which "
    "the newest is taken. What the network is, its JSON item 'config' says, or a model.toml in that folder. "
    "FAMILY overrides: a builtin, or PACKAGE.MODULE:CALLABLE. May be given several times.",
)
@click.option(
    "--listen",
    default=DEFAULTS.listen,
    show_default=True,
    metavar="HOST:PORT",
    help="Where gRPC listens; unix:PATH too. Port 0 picks a free one.",
)
@click.option(
    "--http-listen",
    default=DEFAULTS.http_listen,
    show_default=True,
    metavar="HOST:PORT",
    help="Where /metrics, /healthz and /readyz are.",
)
@click.option(
    "--max-request-mib",
    default=DEFAULTS.max_request_bytes // MIB,
    show_default=True,
    type=click.IntRange(1, 2047),
    help="The largest request, in MiB.",
)
@click.option(
    "--max-inspection-mib",
    default=DEFAULTS.max_inspection_bytes // MIB,
    show_default=True,
    type=click.IntRange(1),
    help="The most that one inspection may send, in MiB.",
)
@click.option(
    "--max-programs",
    default=DEFAULTS.max_programs,
    show_default=True,
    type=click.IntRange(1),
    help="How many compiled inspections each model holds, besides its presets.",
)
@click.option(
    "--max-compiles",
    default=DEFAULTS.max_compiles,
    show_default=True,
    type=click.IntRange(1),
    help="How many inspections of each model may be compiled or wait for that at once.",
)
@click.option(
    "--compile-cache",
    metavar="DIR",
    show_default="fluoroscope/programs in $XDG_CACHE_HOME or ~/.cache",
    help="Where compiled programs are kept, so that the next start is quick; 'off' keeps none. Whoever can write "
    "there runs code in this server: it must be this user's own.",
)
@click.option(
    "--compile-cache-mib",
    default=DEFAULTS.compile_cache_bytes // MIB,
    show_default=True,
    type=click.IntRange(1),
    help="How much that folder may hold, in MiB; what was not used for longest goes.",
)
@click.option(
    "--tls-certificate",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Encrypt gRPC, and show this certificate (PEM, its chain behind it). Read again when it changes.",
)
@click.option(
    "--tls-key", type=click.Path(path_type=Path), metavar="FILE", help="The private key of that certificate (PEM)."
)
@click.option(
    "--tls-client-ca",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Let only clients in whose certificate one of these authorities (PEM) has signed.",
)
@click.option(
    "--tokens",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Let only clients in that show a token of which this file has the hash; `fluoroscope-server token` makes "
    "them. Read again when it changes.",
)
@click.option(
    "--allow-insecure-tokens",
    is_flag=True,
    help="Take tokens from other machines without TLS: right only where a proxy in front encrypts.",
)
@click.option(
    "--grace",
    "grace_seconds",
    default=DEFAULTS.grace_seconds,
    show_default=True,
    type=click.FloatRange(0),
    help="How long calls under way may go on after SIGTERM, in seconds.",
)
def serve(
    *,
    models: tuple[str, ...],
    listen: str,
    http_listen: str,
    max_request_mib: int,
    max_inspection_mib: int,
    max_programs: int,
    max_compiles: int,
    compile_cache: str | None,
    compile_cache_mib: int,
    grace_seconds: float,
    tls_certificate: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
    tokens: Path | None,
    allow_insecure_tokens: bool,
) -> None:
    """Loads models and serves them until SIGTERM or Ctrl-C."""
    try:
        settings = Settings(
            models=tuple(ModelSource.parse(text) for text in models),
            listen=listen,
            http_listen=http_listen,
            max_request_bytes=max_request_mib * MIB,
            max_inspection_bytes=max_inspection_mib * MIB,
            max_programs=max_programs,
            max_compiles=max_compiles,
            compile_cache=_compile_cache(compile_cache),
            compile_cache_bytes=compile_cache_mib * MIB,
            grace_seconds=grace_seconds,
            tls_certificate=tls_certificate,
            tls_key=tls_key,
            tls_client_ca=tls_client_ca,
            tokens=tokens,
            allow_insecure_tokens=allow_insecure_tokens,
        )
        _run(settings)
    except FluoroscopeError as error:
        raise click.ClickException(error.message) from error
    except ModuleNotFoundError as error:
        message = f"{error.name} is not installed: this is the client alone; pip install 'fluoroscope[server]'"
        raise click.ClickException(message) from error


@main.command(epilog=ISSUE_EPILOG)
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice([scope.value for scope in Scope]),
    help="What its holder may do. May be given several times.",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="MODEL",
    help="For this model alone. May be given several times.  [default: all models]",
)
@click.option(
    "--expires", type=click.DateTime(["%Y-%m-%d"]), metavar="YYYY-MM-DD", help="Good until that day begins (UTC)."
)
def token(name: str, *, scopes: tuple[str, ...], models: tuple[str, ...], expires: datetime | None) -> None:
    """Makes a token, and shows it this once.

    NAME is what the server calls its holder. The entry for the server's file of tokens, in which there is only a hash,
    goes to standard output; the token itself goes to standard error.
    """
    secret = new_token()
    _announce(f"the token of {name}, shown this once:")
    click.echo(secret, err=True)
    click.echo(entry_of(secret, name, scopes, models, expires))


def _compile_cache(asked: str | None) -> Path | None:
    """Returns the folder for compiled programs; None if none is wanted, or none was named and the usual one is no good.

    Raises:
        SettingsError: the folder that was named cannot be used.
    """
    if asked == "off":
        return None
    if asked is not None:
        return private_folder(Path(asked).expanduser())
    try:
        return private_folder(default_compile_cache())
    except SettingsError as error:
        _announce(f"compiled programs are not kept: {error.message}")
        return None


def _run(settings: Settings) -> None:
    # What gRPC would log of a port that is taken, or of a client that is gone, says less than our own words.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    keep_large_buffers()  # before JAX and gRPC are imported: threads that they start have arenas of their own otherwise
    # Imported here, so that --help answers at once: JAX takes seconds to import.
    from fluoroscope_server.app import App  # noqa: PLC0415

    async def run() -> None:
        app = App(settings, announce=_announce)
        await app.start()
        _announce("ready")
        await app.serve()

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(run())


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 (not there on every platform)
    except ImportError:
        return None
    loop: type[asyncio.AbstractEventLoop] = uvloop.Loop
    return loop


def _announce(line: str) -> None:
    click.echo(f"fluoroscope-server: {line}", err=True)
