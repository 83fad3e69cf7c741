"""The command line of the server."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import click

from fluoroscope_server.allocator import keep_large_buffers
from fluoroscope_server.errors import FluoroscopeError, SettingsError
from fluoroscope_server.private_folder import private_folder
from fluoroscope_server.settings import MIB, ModelSource, Settings, Swap, default_compile_cache

DEFAULTS = Settings(models=())

EPILOG = """\b
Examples:
  fluoroscope-server serve --model digits=checkpoints/digits
  fluoroscope-server serve --model net=ckpt,family=my_pkg.nets:build --listen 127.0.0.1:0
  fluoroscope-server serve --repository models

\b
Then, from anywhere:
  fluoroscope models
  fluoroscope sites digits
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
    metavar="NAME=PATH[,family=FAMILY]",
    help="A model to serve: its name, and the folder of its Orbax checkpoint, or of a series of them, of which "
    "the newest is taken. What the network is, its JSON item 'config' says, or a model.toml in that folder. "
    "FAMILY overrides: a builtin, or PACKAGE.MODULE:CALLABLE. May be given several times.",
)
@click.option(
    "--repository",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="A folder of models: each folder in it is one, as for --model, under its own name. New steps are served as "
    "they are committed, and models come and go with their folders.",
)
@click.option("--watch", is_flag=True, help="Serve new steps of each --model, too, as they are committed.")
@click.option(
    "--poll-seconds",
    default=DEFAULTS.poll_seconds,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="How often to look for new steps and models.",
)
@click.option(
    "--swap",
    default=DEFAULTS.swap.value,
    show_default=True,
    type=click.Choice([each.value for each in Swap]),
    help="What to do with a new step that does not fit into memory beside the old one: keep the old, or stop that "
    "first. A model.toml may say it for its model.",
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
    repository: Path | None,
    watch: bool,
    poll_seconds: float,
    swap: str,
    listen: str,
    http_listen: str,
    max_request_mib: int,
    max_inspection_mib: int,
    max_programs: int,
    max_compiles: int,
    compile_cache: str | None,
    compile_cache_mib: int,
    grace_seconds: float,
) -> None:
    """Loads models and serves them until SIGTERM or Ctrl-C."""
    if not models and repository is None:
        raise click.UsageError("Missing option '--model' or '--repository': say what to serve.")
    try:
        settings = Settings(
            models=tuple(ModelSource.parse(text) for text in models),
            repository=repository,
            watch=watch,
            poll_seconds=poll_seconds,
            swap=Swap(swap),
            listen=listen,
            http_listen=http_listen,
            max_request_bytes=max_request_mib * MIB,
            max_inspection_bytes=max_inspection_mib * MIB,
            max_programs=max_programs,
            max_compiles=max_compiles,
            compile_cache=_compile_cache(compile_cache),
            compile_cache_bytes=compile_cache_mib * MIB,
            grace_seconds=grace_seconds,
        )
        _run(settings)
    except FluoroscopeError as error:
        raise click.ClickException(error.message) from error
    except ModuleNotFoundError as error:
        message = f"{error.name} is not installed: this is the client alone; pip install 'fluoroscope[server]'"
        raise click.ClickException(message) from error


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
