"""`fluoroscope models`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fluoroscope.cli.ending import epilog
from fluoroscope.cli.form import print_json
from fluoroscope.cli.options import VERSION
from fluoroscope.cli.session import Session, session_options
from fluoroscope.cli.table import bytes_cell, print_table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fluoroscope.calls import Model


_EXAMPLES = """Examples:
  fluoroscope models
  fluoroscope models digits
  fluoroscope models digits --json | jq '.inputs'"""


@click.command(epilog=epilog(_EXAMPLES))
@click.argument("model", required=False)
@VERSION
@session_options()
def models(model: str | None, *, version: int | None) -> None:
    """Lists the models of the server, or describes MODEL: what it wants, what it gives, what it is."""
    session = Session.current()
    if model is None and version is not None:
        raise click.UsageError("--version says which version of a MODEL: name one.")
    with session.client() as client:
        found = client.models() if model is None else client.model(model, version=version)
    if session.json:
        print_json(found)
    elif isinstance(found, list):
        _print_all(found)
    else:
        _print_one(found)


def _print_all(found: Iterable[Model]) -> None:
    rows = [
        (
            model.name,
            str(model.version),
            model.state.lower(),
            model.family,
            f"{model.parameter_count:,}",
            ", ".join(map(str, model.inputs)),
            ", ".join(map(str, model.outputs)),
        )
        for model in found
    ]
    columns = ("model", "version", "state", "family", "parameters", "inputs", "outputs")
    print_table(columns, rows, numbers=("version", "parameters"))


def _print_one(model: Model) -> None:
    state = f"{model.state.lower()}: {model.state_reason}" if model.state_reason else model.state.lower()
    rows = [
        ("model", model.name),
        ("version", str(model.version)),
        ("state", state),
        ("family", model.family),
        *(("input", str(spec)) for spec in model.inputs),
        *(("output", str(spec)) for spec in model.outputs),
        ("batch sizes", ", ".join(map(str, model.buckets))),
        ("parameters", f"{model.parameter_count:,} ({bytes_cell(model.parameter_bytes)})"),
        ("sites", str(model.site_count)),
        ("device", model.device),
        ("loaded in", f"{model.load_seconds:.2f} s"),
        ("checkpoint", f"{model.digest or 'unknown'} ({'sealed' if model.sealed else 'not sealed'})"),
    ]
    print_table(("", ""), rows)
