"""`fluoroscope sites`."""

from __future__ import annotations

import click

from fluoroscope.cli.ending import epilog
from fluoroscope.cli.form import print_json
from fluoroscope.cli.options import ANY_KIND, LABEL, VERSION
from fluoroscope.cli.session import Session, session_options
from fluoroscope.cli.table import bytes_cell, print_table, shape_cell

_EXAMPLES = """Examples:
  fluoroscope sites digits
  fluoroscope sites digits 'layers_*/attn/**' --kind equation
  fluoroscope sites digits --json | jq '.[].path'"""


@click.command(short_help="Lists the places inside MODEL that can be looked at.", epilog=epilog(_EXAMPLES))
@click.argument("model")
@click.argument("globs", nargs=-1, metavar="[GLOB]...")
@ANY_KIND
@VERSION
@LABEL
@session_options()
def sites(
    model: str, globs: tuple[str, ...], *, kinds: tuple[str, ...], version: int | None, label: str | None
) -> None:
    """Lists the places inside MODEL whose values can be captured, in execution order. It runs nothing.

    GLOB keeps the sites that it matches: "*" matches within a path segment, "**" across segments, "?"
    one character. FLOPs is the part of the network's work that must be done to know the value.
    """
    session = Session.current()
    with session.client() as client:
        found = client.sites(model, *globs, kinds=kinds, version=version, label=label)
    if session.json:
        print_json(found)
        return
    if not found:
        click.echo(f"No site of {model} is that; `fluoroscope sites {model}` lists them.", err=True)
        return
    named = {
        "site": [site.path for site in found],
        "kind": [site.kind.lower() for site in found],
        "dtype": ["" if site.dtype is None else str(site.dtype) for site in found],
        "shape": [shape_cell(site.shape) for site in found],
        "bytes per example": [bytes_cell(site.bytes_per_example) for site in found],
        "FLOPs": [f"{site.flops_fraction:.1%}" for site in found],
    }
    if not all(site.capturable for site in found):
        named["not capturable because"] = [site.not_capturable_reason for site in found]
    print_table(tuple(named), zip(*named.values(), strict=True), numbers=("bytes per example", "FLOPs"))
