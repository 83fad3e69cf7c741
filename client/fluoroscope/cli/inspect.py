"""`fluoroscope inspect`."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from fluoroscope.calls import Histogram, Quantiles, Statistics
from fluoroscope.cli.assignment import INPUTS, is_input, read_inputs
from fluoroscope.cli.bar import Bar
from fluoroscope.cli.ending import epilog
from fluoroscope.cli.form import print_json
from fluoroscope.cli.options import CAST, OUTPUT, VERSION
from fluoroscope.cli.output import writing
from fluoroscope.cli.question import question_options
from fluoroscope.cli.reduction import REDUCTIONS
from fluoroscope.cli.report import Tables, without_tensors, write
from fluoroscope.cli.session import Session, session_options

if TYPE_CHECKING:
    from pathlib import Path

    from fluoroscope.calls import Activation, Execution, Reduction, Slice

_SUMMARIES = (Statistics, Histogram, Quantiles)
_EXAMPLES = """Examples:
  fluoroscope inspect digits image=@seven.png                     every module, as a table
  fluoroscope inspect digits image=@x.npy 'Dense_*' -o acts.npz   the values themselves
  fluoroscope inspect digits image=@x.npy '**' --reduce statistics --json
  fluoroscope inspect digits image=@x.npy 'relu:*' --reduce histogram:bins=20,low=0 --reduce dead --reduce topk:5
  fluoroscope inspect digits image=@x.npy Conv_0 --slice 0:0:1 --slice -1:0:8"""


@click.command(epilog=epilog(_EXAMPLES, REDUCTIONS, INPUTS))
@click.argument("model")
@click.argument("words", nargs=-1, metavar="[INPUT=VALUE]... [GLOB]...")
@question_options
@VERSION
@CAST
@OUTPUT
@session_options()
def inspect(
    model: str,
    words: tuple[str, ...],
    *,
    globs: tuple[str, ...],
    reductions: dict[Reduction[Any], str],
    dtype: str | None,
    kinds: tuple[str, ...],
    slices: tuple[Slice, ...],
    outputs: tuple[str, ...],
    max_bytes: int | None,
    execution: Execution,
    version: int | None,
    cast: bool,
    output: Path | None,
) -> None:
    """Looks at the values inside MODEL while it runs on the given inputs.

    GLOB names sites: "*" matches within a path segment, "**" across segments, "?" one character. None
    given means every site that is the output of a module. `fluoroscope sites MODEL` lists them.
    """
    if output is not None and all(isinstance(each, _SUMMARIES) for each in reductions):
        raise click.UsageError(
            "--output writes tensors, and --reduce asks for none; --json prints statistics, histograms and quantiles."
        )
    sites = [*globs, *(word for word in words if not is_input(word))]
    session = Session.current()
    with session.client() as client, Bar() as bar, ExitStack() as stack:
        described = client.model(model, version=version)
        arrays = read_inputs(filter(is_input, words), described, cast=cast)
        file = None if output is None else stack.enter_context(writing(output))
        found = client.stream(
            model,
            arrays,
            sites=sites or "**",
            kinds=kinds or (() if sites else ("module",)),
            reduce=list(reductions),
            dtype=dtype,
            slices=slices,
            outputs=outputs,
            max_bytes=max_bytes,
            execution=execution,
            version=version,
            progress=bar,
        )
        written, tables, seen = 0, Tables(words=reductions), _Seen()
        for activation in found:
            if file is not None:
                written += write(activation, file, reductions)
            if session.json:
                seen.add(activation if file is None else without_tensors(activation))
            else:
                tables.add(activation)
    if session.json:
        _print_json(seen, bar, output)
        return
    tables.print()
    if output is not None:
        click.echo(f"{output}: {written} arrays written", err=True)


class _Seen(dict[tuple[str, bool], "Activation"]):
    """One activation for each site or output, in order."""

    def add(self, activation: Activation) -> None:
        """Takes what came back for a site."""
        key = (activation.site, activation.is_output)
        self[key] = self[key].merged(activation) if key in self else activation


def _print_json(seen: _Seen, bar: Bar, output: Path | None) -> None:
    last = bar.last
    about = {} if last is None else {
        "model": last.model,
        "version": last.version,
        "rows": last.rows,
        "program": last.program,
        "stages": last.stages,
    }  # fmt: skip
    written = {} if output is None else {"output": str(output)}
    print_json(
        {
            **about,
            "sites": [each for each in seen.values() if not each.is_output],
            "outputs": [each for each in seen.values() if each.is_output],
            **written,
        }
    )
