"""`fluoroscope load`, `fluoroscope unload` and `fluoroscope label`: which versions of a model serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fluoroscope.cli.ending import epilog
from fluoroscope.cli.form import print_json
from fluoroscope.cli.models import print_models
from fluoroscope.cli.options import within_64_bits
from fluoroscope.cli.session import Session, session_options

if TYPE_CHECKING:
    from fluoroscope.calls import Model

_LOAD = """Examples:
  fluoroscope load digits                the newest step, or what the model's model.toml wants
  fluoroscope load digits 300            this step; it serves until it is unloaded
  fluoroscope load digits 300 --timeout 3600"""

_UNLOAD = """Examples:
  fluoroscope unload digits 200
  fluoroscope unload digits              all versions of it"""

_LABEL = """Examples:
  fluoroscope label digits stable 200    then: fluoroscope predict digits --label stable ...
  fluoroscope label digits stable --clear"""


@click.command(short_help="Loads a version of MODEL, and waits until it serves.", epilog=epilog(_LOAD))
@click.argument("model")
@click.argument("version", type=int, required=False, callback=within_64_bits)
@session_options()
def load(model: str, version: int | None) -> None:
    """Loads a version of MODEL, and waits until it serves, or says why it does not. What serves goes on meanwhile."""
    with Session.current().client() as client:
        _print(client.load_model(model, version=version))


@click.command(short_help="Unloads a version of MODEL, and frees its memory.", epilog=epilog(_UNLOAD))
@click.argument("model")
@click.argument("version", type=int, required=False, callback=within_64_bits)
@click.option("--force", is_flag=True, help="Even if a label names it; the label goes, too.")
@session_options()
def unload(model: str, version: int | None, *, force: bool) -> None:
    """Unloads a version of MODEL, and waits until its requests have ended and its memory is free.

    It stays away until it is loaded by hand, or the server starts anew.
    """
    with Session.current().client() as client:
        _print(client.unload_model(model, version=version, force=force))


@click.command(epilog=epilog(_LABEL))
@click.argument("model")
@click.argument("label")
@click.argument("version", type=int, required=False, callback=within_64_bits)
@click.option("--clear", is_flag=True, help="Take the label away.")
@session_options()
def label(model: str, label: str, version: int | None, *, clear: bool) -> None:
    """Lets LABEL point to a version of MODEL that is loaded."""
    if (version is None) is not clear:
        raise click.UsageError("Say which VERSION the label shall name, or --clear to take it away.")
    with Session.current().client() as client:
        _print(client.set_label(model, label, version))


def _print(model: Model) -> None:
    if Session.current().json:
        print_json(model)
    else:
        print_models([model])
