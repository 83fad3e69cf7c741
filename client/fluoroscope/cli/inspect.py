"""`fluoroscope inspect`."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from fluoroscope.calls import Full, Slice, Statistics
from fluoroscope.cli.assignment import INPUTS, is_input, read_inputs
from fluoroscope.cli.bar import Bar
from fluoroscope.cli.describe import describe
from fluoroscope.cli.ending import epilog
from fluoroscope.cli.form import print_json
from fluoroscope.cli.options import CAST, KIND, OUTPUT, VERSION, within_64_bits
from fluoroscope.cli.output import writing
from fluoroscope.cli.session import Session, session_options
from fluoroscope.cli.table import STATISTICS, print_table, shape_cell, statistics_cells

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from fluoroscope.calls import Activation, Reduction
    from fluoroscope.cli.output import Writer

_REDUCTIONS: dict[str, Reduction] = {"full": Full(), "statistics": Statistics()}
_LIMIT = 2**62


def _slices(_: click.Context, __: click.Parameter, words: tuple[str, ...]) -> tuple[Slice, ...]:
    return tuple(map(_slice, words))


def _slice(word: str) -> Slice:
    try:
        axis, *parts = word.split(":")
        numbers = [int(part) if part else None for part in parts]
        fits = len(numbers) in {2, 3} and all(abs(number or 0) < _LIMIT for number in numbers)
        if fits and abs(int(axis)) < 1 << 31:
            return Slice(int(axis), *numbers)
    except ValueError:
        pass
    raise click.BadParameter(f"{word!r} is not AXIS:START:STOP or AXIS:START:STOP:STEP, such as 0:0:1.")


_EXAMPLES = """Examples:
  fluoroscope inspect digits image=@seven.png                     every module, as a table
  fluoroscope inspect digits image=@x.npy 'Dense_*' -o acts.npz   the values themselves
  fluoroscope inspect digits image=@x.npy '**' --reduce statistics --json
  fluoroscope inspect digits image=@x.npy Conv_0 --slice 0:0:1 --slice -1:0:8"""


@click.command(epilog=epilog(_EXAMPLES, INPUTS))
@click.argument("model")
@click.argument("words", nargs=-1, metavar="[INPUT=VALUE]... [GLOB]...")
@click.option("--sites", "globs", multiple=True, metavar="GLOB", help="Sites to look at, like GLOB; repeatable.")
@click.option(
    "--reduce",
    "reductions",
    multiple=True,
    type=click.Choice(list(_REDUCTIONS)),
    default=("full",),
    show_default=True,
    help="What to send of each value; repeatable.",
)
@KIND
@click.option(
    "--slice",
    "slices",
    multiple=True,
    callback=_slices,
    metavar="AXIS:START:STOP[:STEP]",
    help="Send only this part of each value; repeatable, once for each axis.",
)
@click.option("--with-output", "outputs", multiple=True, metavar="NAME", help="An output to bring, too; repeatable.")
@click.option(
    "--max-bytes",
    type=int,
    callback=within_64_bits,
    help="Refuse if the values have more bytes.  [default: the server's limit]",
)
@VERSION
@CAST
@OUTPUT
@session_options()
def inspect(
    model: str,
    words: tuple[str, ...],
    *,
    globs: tuple[str, ...],
    reductions: tuple[str, ...],
    kinds: tuple[str, ...],
    slices: tuple[Slice, ...],
    outputs: tuple[str, ...],
    max_bytes: int | None,
    version: int | None,
    cast: bool,
    output: Path | None,
) -> None:
    """Looks at the values inside MODEL while it runs on the given inputs.

    GLOB names sites: "*" matches within a path segment, "**" across segments, "?" one character. None
    given means every site that is the output of a module. `fluoroscope sites MODEL` lists them.
    """
    if output is not None and "full" not in reductions:
        raise click.UsageError("--output writes full values, and --reduce asks for none; --json prints statistics.")
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
            reduce=[_REDUCTIONS[name] for name in dict.fromkeys(reductions)],
            slices=slices,
            outputs=outputs,
            max_bytes=max_bytes,
            version=version,
            progress=bar,
        )
        keep = session.json and file is None
        seen = _merged(_seen(activation, file, keep=keep) for activation in found)
    if session.json:
        _print_json(seen, bar, output)
    else:
        _print_table(seen)
        if output is not None:
            click.echo(f"{output}: {sum(1 for _, dtype in seen if dtype)} arrays written", err=True)


def _seen(activation: Activation, file: Writer | None, *, keep: bool) -> tuple[Activation, str]:
    """Writes a value to the file, if there is one; returns what is printed of it, and its dtype."""
    array = activation.array
    if array is None:
        return activation, ""
    if file is not None:
        file.add(f"outputs/{activation.site}" if activation.is_output else activation.site, array)
    if keep:
        return activation, array.dtype.name
    return replace(activation, array=None, statistics=describe(array)), array.dtype.name


def _merged(seen: Iterable[tuple[Activation, str]]) -> list[tuple[Activation, str]]:
    """Returns one entry for each site; the server's own statistics win over those computed here."""
    found: dict[tuple[str, bool], tuple[Activation, str]] = {}
    for activation, dtype in seen:
        key = (activation.site, activation.is_output)
        known = found.get(key)
        found[key] = (activation, dtype) if known is None else (known[0].merged(activation), known[1] or dtype)
    return list(found.values())


def _print_json(seen: Iterable[tuple[Activation, str]], bar: Bar, output: Path | None) -> None:
    last = bar.last
    about = {} if last is None else {
        "model": last.model,
        "version": last.version,
        "rows": last.rows,
        "program": last.program,
        "stages": last.stages,
    }  # fmt: skip
    activations = [activation for activation, _ in seen]
    written = {} if output is None else {"output": str(output)}
    print_json(
        {
            **about,
            "sites": [each for each in activations if not each.is_output],
            "outputs": [each for each in activations if each.is_output],
            **written,
        }
    )


def _print_table(seen: Sequence[tuple[Activation, str]]) -> None:
    rows = [
        (
            activation.site,
            "output" if activation.kind is None else activation.kind.lower(),
            dtype,
            shape_cell(activation.shape),
            *statistics_cells(activation.statistics),
        )
        for activation, dtype in seen
    ]
    print_table(("site", "kind", "dtype", "shape", *STATISTICS), rows, numbers=STATISTICS)
