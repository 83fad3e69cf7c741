"""The command line of the server."""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fluoroscope_server.allocator import keep_large_buffers
from fluoroscope_server.commands import check, seal, token
from fluoroscope_server.configuration import SETTINGS, Configuration
from fluoroscope_server.errors import FluoroscopeError, SettingsError
from fluoroscope_server.logs import PACKAGE, write_at_once, write_logs, written_behind
from fluoroscope_server.open_files import allow_connections
from fluoroscope_server.private_folder import private_folder
from fluoroscope_server.settings import default_compile_cache
from fluoroscope_server.stop_signals import ended_at_once

if TYPE_CHECKING:
    from collections.abc import Callable

    from fluoroscope_server.settings import Settings

log = logging.getLogger(PACKAGE)

EPILOG = """\b
Examples:
  fluoroscope-server serve --model digits=checkpoints/digits
  fluoroscope-server serve --model net=ckpt,family=my_pkg.nets:build --listen 127.0.0.1:0
  fluoroscope-server serve --repository models
  fluoroscope-server serve --config server.toml
  fluoroscope-server serve --print-settings > server.toml

\b
Then, from anywhere:
  fluoroscope models
  fluoroscope sites digits

\b
Exit codes:
  0  it served until it was told to end
  1  it cannot start: a model, a port, or what a setting names is no good
  2  the command line, the environment or the file of settings is wrong
"""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="fluoroscope")
def main() -> None:
    """Serves Flax networks from Orbax checkpoints over gRPC, and lets clients look inside them."""


def _flags(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command a flag for each setting. Their values are checked with those of the file and the environment."""
    for each in reversed(SETTINGS):
        flag = f"{each.flag}/--no-{each.name}" if each.kind is bool else each.flag
        command = click.option(
            flag,
            each.field,
            default=None,
            multiple=each.many,
            type=bool if each.kind is bool else str,
            metavar=None if each.kind is bool else each.stands_for,
            help=each.about,
        )(command)
    return command


@main.command(epilog=EPILOG)
@_flags
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A file of TOML whose keys are these flags, without the dashes in front.  [or: FLUOROSCOPE_CONFIG]",
)
@click.option("--print-settings", is_flag=True, help="Prints all settings as such a file, and ends.")
def serve(*, config: Path | None, print_settings: bool, **flags: Any) -> None:
    """Loads models and serves them until SIGTERM, SIGHUP or Ctrl-C.

    Each setting is a flag, a variable of the environment, and a key of a file, in this order of precedence:
    --max-programs 8, FLUOROSCOPE_MAX_PROGRAMS=8, max-programs = 8.
    """
    with ended_at_once(lambda: write_at_once("stopped")):  # before anything that takes long
        found = _configuration(flags, config)
        if print_settings:
            click.echo(found.document(), nl=False)
        else:
            _serve(found)


def _serve(found: Configuration) -> None:
    write_logs(found.settings.log_format, found.settings.log_level)
    if not found.settings.models and found.settings.repository is None:
        raise click.UsageError("there is nothing to serve: give --model NAME=PATH, or --repository DIR")
    try:
        cache = _compile_cache(found)
        _announce("settings: " + "; ".join(found.lines()))
        _run(replace(found.settings, compile_cache=cache))
    except FluoroscopeError as error:
        raise _fatal(found.settings, error.message) from error
    except ModuleNotFoundError as error:
        message = f"{error.name} is not installed: this is the client alone; pip install 'fluoroscope[server]'"
        raise _fatal(found.settings, message) from error


def _fatal(settings: Settings, message: str) -> Exception:
    """Returns what ends the command with 1 when it is raised, and tells why: whoever reads JSON reads nothing else."""
    if settings.log_format != "json":
        return click.ClickException(message)
    log.error(message)
    return click.exceptions.Exit(1)


def _configuration(flags: dict[str, Any], file: Path | None) -> Configuration:
    """Returns what was set; a setting that is wrong ends as a flag that is none does."""
    try:
        return Configuration.read(flags, os.environ, file=file)
    except SettingsError as error:
        raise click.UsageError(error.message) from error


def _compile_cache(found: Configuration) -> Path | None:
    """Returns the folder for compiled programs; None if none is wanted, or none was named and the usual one is no good.

    Raises:
        SettingsError: the folder that was named cannot be used.
    """
    asked = found.settings.compile_cache
    if asked == Path("off"):
        return None
    if asked is not None:
        return private_folder(asked)
    try:
        return private_folder(default_compile_cache())
    except SettingsError as error:
        _announce(f"compiled programs are not kept: {error.message}")
        return None


def _run(settings: Settings) -> None:
    # What gRPC would log of a port that is taken, or of a client that is gone, says less than our own words.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    allow_connections(settings.max_connections)
    keep_large_buffers()  # before JAX and gRPC are imported: threads that they start have arenas of their own otherwise
    from fluoroscope_server.app import App  # noqa: PLC0415 (JAX takes seconds to import, and --help answers at once)

    async def run() -> None:
        await App(settings, announce=_announce).run()

    with written_behind():
        runner = asyncio.Runner(loop_factory=_loop_factory())
        try:
            runner.run(run())
        except BaseException:  # Ctrl-C too: whatever it is, the loop is closed before somebody says so
            runner.close()
            raise
    # Python would wait for threads that still load, compile, or look at a mount that hangs. Nobody needs what they
    # do, and XLA aborts a process that Python ends while it compiles.
    os._exit(0)


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 (not there on every platform)
    except ImportError:
        return None
    loop: type[asyncio.AbstractEventLoop] = uvloop.Loop
    return loop


def _announce(line: str) -> None:
    log.info(line)


main.add_command(seal)
main.add_command(check)
main.add_command(token)
