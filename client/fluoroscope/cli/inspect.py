"""`fluoroscope inspect`."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from fluoroscope.cli.assignment import INPUTS, is_input, read_inputs
from fluoroscope.cli.bar import Bar, RowBar
from fluoroscope.cli.dataset import DATASET, read_data_set
from fluoroscope.cli.edit import EDITS
from fluoroscope.cli.ending import epilog
from fluoroscope.cli.gradient import read_gradient
from fluoroscope.cli.options import CAST, LABEL, OUTPUT, VERSION
from fluoroscope.cli.output import writing
from fluoroscope.cli.question import question_options
from fluoroscope.cli.reduction import REDUCTIONS, read_reductions
from fluoroscope.cli.report import SUMMARIES, Seen, Tables, print_seen, without_tensors, write
from fluoroscope.cli.session import Session, session_options
from fluoroscope.cli.survey import surveyed, taken

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from fluoroscope.calls import Activation, Execution, Reduction, Slice
    from fluoroscope.cli.edit import EditForm

_EXAMPLES = """Examples:
  fluoroscope inspect digits image=@seven.png                     every module, as a table
  fluoroscope inspect digits image=@x.npy 'Dense_*' -o acts.npz   the values themselves
  fluoroscope inspect digits image=@x.npy '**' --reduce statistics --json
  fluoroscope inspect digits image=@x.npy 'relu:*' --reduce histogram:bins=20,low=0 --reduce dead --reduce topk:5
  fluoroscope inspect digits image=@x.npy Conv_0 --slice 0:0:1 --slice -1:0:8
  fluoroscope inspect digits image=@x.npy __call__ --edit 'zero relu:1 units=3,7' --edit 'scale Dense_0 by=0.5'
  fluoroscope inspect digits image=@x.npy 'Dense_*' --gradient logits=4 --wrt inputs/image --reduce norm
  fluoroscope inspect digits --dataset images.npz 'relu:*' --reduce dead --reduce quantiles:0.5
  fluoroscope inspect digits --dataset images.npz head --reduce full --slice 0:0:5000 -o head.npy"""


@click.command(
    short_help="Looks at the values inside MODEL while it runs.",
    epilog=epilog(_EXAMPLES, REDUCTIONS, EDITS, INPUTS, DATASET),
)
@click.argument("model")
@click.argument("words", nargs=-1, metavar="[INPUT=VALUE]... [GLOB]...")
@question_options
@click.option("--dataset", metavar="FILE", help="Look at all examples of FILE, as if they were one batch; see below.")
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    help="How many examples of the data set to send at once.  [default: the most that the model takes]",
)
@VERSION
@LABEL
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
    edits: tuple[EditForm, ...],
    logit: str | None,
    loss: str | None,
    names: tuple[str, ...],
    dataset: str | None,
    batch_size: int | None,
    version: int | None,
    label: str | None,
    cast: bool,
    output: Path | None,
) -> None:
    """Looks at the values inside MODEL while it runs on the given inputs.

    The inputs are one batch, or with --dataset as many examples as a file holds.

    GLOB names sites: "*" matches within a path segment, "**" across segments, "?" one character. None
    given means every site that is the output of a module. `fluoroscope sites MODEL` lists them.
    """
    asked, reductions = reductions, reductions or read_reductions(("full" if dataset is None else "statistics",))
    if output is not None and all(isinstance(each, SUMMARIES) for each in reductions):
        why = "--reduce asks for none" if asked else "a data set comes as statistics unless --reduce says otherwise"
        raise click.UsageError(
            f"--output writes tensors, and {why}; --json prints statistics, histograms and quantiles."
        )
    inputs = tuple(filter(is_input, words))
    _check_data_set(
        dataset,
        batch_size,
        {
            "--dtype": dtype,
            "--with-output": outputs,
            "--edit": edits,
            "--gradient": logit,
            "--loss": loss,
            " ".join(inputs): inputs,
        },
    )
    sites = [*globs, *(word for word in words if not is_input(word))]
    gradient = read_gradient(logit, loss, names)
    question: Mapping[str, Any] = {
        "sites": sites or (() if names else "**"),
        "kinds": kinds or (() if sites else ("module",)),
        "reduce": list(reductions),
        "slices": slices,
        "max_bytes": max_bytes,
    }
    session = Session.current()
    bar: Bar | RowBar
    found: Iterable[Activation]
    with session.client() as client, ExitStack() as stack:
        described = client.model(model, version=version, label=label)
        file = None if output is None else stack.enter_context(writing(output))
        if dataset is None:
            arrays = read_inputs(inputs, described, cast=cast)
            bar = stack.enter_context(Bar())
            found = client.stream(
                model,
                arrays,
                **question,
                dtype=dtype,
                outputs=outputs,
                execution=execution,
                edits=[form.edit(described, cast=cast) for form in edits],
                gradient=gradient,
                version=version,
                label=label,
                progress=bar,
            )
        else:
            data, question = taken(client, described, read_data_set(dataset, described, cast=cast), question)
            bar = stack.enter_context(RowBar(data.rows))
            found = surveyed(client, described, data, question, batch_size=batch_size, bar=bar)
        written, tables, seen = 0, Tables(words=reductions), Seen()
        for activation in found:
            if file is not None:
                written += write(activation, file, reductions)
            if session.json:
                seen.add(activation if file is None else without_tensors(activation))
            else:
                tables.add(activation)
    if session.json:
        print_seen(seen, bar.about, output)
        return
    tables.print()
    if gradient is not None:
        click.echo(f"these are gradients of {gradient.output}, not values; outputs excepted", err=True)
    if output is not None:
        click.echo(f"{output}: {written} array{'' if written == 1 else 's'} written", err=True)


def _check_data_set(dataset: str | None, batch_size: int | None, others: Mapping[str, object]) -> None:
    """Refuses options that say nothing without a data set, or nothing with one."""
    if dataset is None and batch_size is not None:
        raise click.UsageError("--batch-size is for --dataset; inputs that are given one by one are one batch.")
    needless = [name for name, value in others.items() if value]
    if dataset is not None and needless:
        raise click.UsageError(
            f"--dataset gives all inputs, and brings sites only, uncast: leave out {', '.join(needless)}."
        )
