"""`fluoroscope models`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fluoroscope.calls import ModelState
from fluoroscope.cli.ending import epilog
from fluoroscope.cli.form import print_json
from fluoroscope.cli.options import LABEL, VERSION
from fluoroscope.cli.session import Session, session_options
from fluoroscope.cli.table import bytes_cell, print_table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fluoroscope.calls import Model, ModelVersion


_EXAMPLES = """Examples:
  fluoroscope models
  fluoroscope models digits
  fluoroscope models digits --json | jq '.inputs'"""


@click.command(short_help="Lists the models of the server, or describes one.", epilog=epilog(_EXAMPLES))
@click.argument("model", required=False)
@VERSION
@LABEL
@session_options()
def models(model: str | None, *, version: int | None, label: str | None) -> None:
    """Lists the models of the server and their versions, or describes MODEL: what it wants, gives, and is."""
    session = Session.current()
    if model is None and (version is not None or label is not None):
        raise click.UsageError("--version and --label say which version of a MODEL: name one.")
    with session.client() as client:
        found = client.models() if model is None else client.model(model, version=version, label=label)
    if session.json:
        print_json(found)
    elif isinstance(found, list):
        if found:
            print_models(found)
        else:
            click.echo("This server has no models, or none that your token is for.", err=True)
    else:
        _print_one(found)


def print_models(found: Iterable[Model]) -> None:
    """Prints a table with a row for each version of each model."""
    columns = ("model", "version", "state", "labels", "family", "parameters", "inputs", "outputs", "why")
    rows = [dict(zip(columns, row, strict=True)) for model in found for row in _rows(model)]
    used = [name for name in columns if name not in {"labels", "why"} or any(row[name] for row in rows)]
    print_table(used, [[row[name] for name in used] for row in rows], numbers=("version", "parameters"))


def _rows(model: Model) -> list[tuple[str, ...]]:
    """Returns a row for each version; what is known of one that serves alone is in its row."""
    about = (
        model.family,
        f"{model.parameter_count:,}" if model.family else "",
        ", ".join(map(str, model.inputs)),
        ", ".join(map(str, model.outputs)),
    )
    rows = [
        (
            model.name,
            str(each.version),
            each.state.lower(),
            ", ".join(each.labels),
            *(about if each.version == model.version else ("",) * len(about)),
            each.state_reason,
        )
        for each in model.versions
    ]
    version = "" if model.state is ModelState.UNLOADED else str(model.version)
    alone = (model.name, version, model.state.lower(), "", *about, model.state_reason)
    return rows or [alone]


def _print_one(model: Model) -> None:
    state = f"{model.state.lower()}: {model.state_reason}" if model.state_reason else model.state.lower()
    inside = [
        ("parameters", f"{model.parameter_count:,} ({bytes_cell(model.parameter_bytes)})"),
        ("sites", str(model.site_count)),
    ]
    checkpoint = ("checkpoint", f"{model.digest or 'unknown'} ({'sealed' if model.sealed else 'not sealed'})")
    is_known = bool(model.family)  # not to whoever may only predict, nor of a network that never loaded
    rows = [
        ("model", model.name),
        ("version", str(model.version)),
        ("state", state),
        *([("family", model.family)] if is_known else []),
        *(("input", str(spec)) for spec in model.inputs),
        *(("output", str(spec)) for spec in model.outputs),
        ("batch sizes", ", ".join(map(str, model.buckets))),
        *(inside if is_known else []),
        ("device", model.device),
        *((f"version {each.version}", _state_of(each)) for each in model.versions),
        ("loaded in", f"{model.load_seconds:.2f} s"),
        *([checkpoint] if is_known else []),
    ]
    print_table(("", ""), rows)


def _state_of(version: ModelVersion) -> str:
    labels = f" ({', '.join(version.labels)})" if version.labels else ""
    why = f": {version.state_reason}" if version.state_reason else ""
    return f"{version.state.lower()}{labels}{why}"
