"""`fluoroscope plan`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fluoroscope.calls import Full
from fluoroscope.cli.edit import EDITS
from fluoroscope.cli.ending import epilog
from fluoroscope.cli.form import print_json
from fluoroscope.cli.gradient import read_gradient
from fluoroscope.cli.options import LABEL, VERSION
from fluoroscope.cli.question import question_options
from fluoroscope.cli.reduction import REDUCTIONS
from fluoroscope.cli.session import Session, session_options
from fluoroscope.cli.table import bytes_cell, print_table, shape_cell

if TYPE_CHECKING:
    from fluoroscope.calls import Execution, Plan, Reduction, Slice
    from fluoroscope.cli.edit import EditForm

_EXAMPLES = """Examples:
  fluoroscope plan digits 'Dense_*'                         what would these bring and cost, for one example?
  fluoroscope plan digits '**' --rows 64 --reduce statistics
  fluoroscope plan digits '**' --rows 64 --compile --json   how much memory does it take on the device?"""


@click.command(short_help="Tells what an inspection would bring and cost.", epilog=epilog(_EXAMPLES, REDUCTIONS, EDITS))
@click.argument("model")
@click.argument("words", nargs=-1, metavar="[GLOB]...")
@click.option("--rows", type=click.IntRange(1), default=1, show_default=True, help="How many examples to plan for.")
@click.option(
    "--compile", is_flag=True, help="Compile the program now: the plan knows its memory, and nobody waits later."
)
@question_options
@VERSION
@LABEL
@session_options()
def plan(
    model: str,
    words: tuple[str, ...],
    *,
    rows: int,
    compile: bool,  # noqa: A002  # the contract's own word
    globs: tuple[str, ...],
    reductions: dict[Reduction[Any], str],
    dtype: str | None,
    kinds: tuple[str, ...],
    slices: tuple[Slice, ...],
    outputs: tuple[str, ...],
    max_bytes: int | None,
    execution: Execution,
    edits: tuple[EditForm, ...],
    logit: str | None,
    loss: str | None,
    names: tuple[str, ...],
    version: int | None,
    label: str | None,
) -> None:
    """Tells what looking into MODEL would bring and cost: bytes, floating point operations, stages. It runs nothing.

    Takes what `inspect` takes, but for the inputs. GLOB names sites; none given means every site that is the output of
    a module.
    """
    sites = [*globs, *words]
    session = Session.current()
    with session.client() as client:
        found = client.plan(
            model,
            rows,
            sites=sites or (() if names else "**"),
            kinds=kinds or (() if sites else ("module",)),
            reduce=list(reductions) or Full(),
            dtype=dtype,
            slices=slices,
            outputs=outputs,
            max_bytes=max_bytes,
            execution=execution,
            edits=[form.edit(None) for form in edits],
            gradient=read_gradient(logit, loss, names),
            compile=compile,
            version=version,
            label=label,
        )
    if session.json:
        print_json(found)
    else:
        _print(found)


def _print(found: Plan) -> None:
    """Prints a plan for people."""
    rows = [
        (
            each.site,
            "output" if each.kind is None else each.kind.lower(),
            f"{each.reduction} {each.part}".strip(),
            shape_cell(each.shape),
            bytes_cell(each.byte_size) if each.byte_size else "",
        )
        for each in found.results
    ]
    print_table(("site", "kind", "what", "shape", "bytes"), rows, numbers=("bytes",))
    stages = "in one stage" if found.stages == 1 else f"in {found.stages:,} stages"
    click.echo(
        f"{bytes_cell(found.bytes)} of tensors, {stages}; {found.program.flops:.3g} FLOPs, "
        f"{found.flops_fraction:.1%} of the network, as a batch of {found.program.bucket}"
    )
    memory = "" if found.peak_bytes is None else f"; it takes up to {bytes_cell(found.peak_bytes)} beside its inputs"
    click.echo(f"the program is {'held' if found.held else 'not compiled yet'}{memory}")
    if not found.allowed:
        click.echo(f"not allowed: {found.refusal}")
