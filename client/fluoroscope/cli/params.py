"""`fluoroscope params`."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from fluoroscope.cli.bar import Bar
from fluoroscope.cli.ending import epilog
from fluoroscope.cli.options import LABEL, OUTPUT, VERSION
from fluoroscope.cli.output import writing
from fluoroscope.cli.question import parameter_options
from fluoroscope.cli.reduction import REDUCTIONS, read_reductions
from fluoroscope.cli.report import SUMMARIES, Seen, Tables, print_seen, without_tensors, write
from fluoroscope.cli.session import Session, session_options

if TYPE_CHECKING:
    from pathlib import Path

    from fluoroscope.calls import Reduction, Slice

_EXAMPLES = """Examples:
  fluoroscope params digits                                       all of them, as a table
  fluoroscope params digits 'params/Dense_*/kernel' -o weights.npz
  fluoroscope params digits 'params/**' --reduce statistics --json
  fluoroscope params digits '**' --reduce histogram:bins=50 --reduce norm"""


@click.command(
    short_help="Reads the parameters of MODEL: weights and what else it holds.", epilog=epilog(_EXAMPLES, REDUCTIONS)
)
@click.argument("model")
@click.argument("words", nargs=-1, metavar="[GLOB]...")
@parameter_options
@VERSION
@LABEL
@OUTPUT
@session_options()
def params(
    model: str,
    words: tuple[str, ...],
    *,
    globs: tuple[str, ...],
    reductions: dict[Reduction[Any], str],
    dtype: str | None,
    slices: tuple[Slice, ...],
    max_bytes: int | None,
    version: int | None,
    label: str | None,
    output: Path | None,
) -> None:
    """Reads the parameters of MODEL: its weights, and what else its checkpoint holds for it. The network does not run.

    GLOB names parameters by their path: "*" matches within a path segment, "**" across segments, "?" one
    character. None given means all. `fluoroscope sites MODEL --kind parameter` lists the paths.

    --output writes the tensors that --reduce asks for; if it asks for none, the parameters themselves.
    """
    reductions = reductions or read_reductions(("statistics",))
    if output is not None and all(isinstance(each, SUMMARIES) for each in reductions):
        reductions = {**read_reductions(("full",)), **reductions}
    session = Session.current()
    written, tables, seen = 0, Tables(words=reductions), Seen()
    with session.client() as client, ExitStack() as stack:
        file = None if output is None else stack.enter_context(writing(output))
        bar = stack.enter_context(Bar())
        found = client.stream_parameters(
            model,
            [*globs, *words] or "**",
            reduce=list(reductions),
            dtype=dtype,
            slices=slices,
            max_bytes=max_bytes,
            version=version,
            label=label,
            progress=bar,
        )
        for parameter in found:
            if file is not None:
                written += write(parameter, file, reductions)
            if session.json:
                seen.add(parameter if file is None else without_tensors(parameter))
            else:
                tables.add(parameter)
    if session.json:
        print_seen(seen, bar.about, output)
        return
    tables.print()
    if output is not None:
        click.echo(f"{output}: {written} array{'' if written == 1 else 's'} written", err=True)
