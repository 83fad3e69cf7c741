"""The options that say what to look at: those of `inspect` and of `plan`, and of `params`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import click

from fluoroscope.calls.execution import EXECUTIONS
from fluoroscope.cli.cut import read_slices
from fluoroscope.cli.edit import read_edits
from fluoroscope.cli.options import KIND, SITES, within_64_bits
from fluoroscope.cli.reduction import read_reductions

if TYPE_CHECKING:
    from collections.abc import Callable

_Option: TypeAlias = "Callable[[Any], Any]"


def _reduce(default: str) -> _Option:
    return click.option(
        "--reduce",
        "reductions",
        multiple=True,
        callback=lambda _, __, words: read_reductions(words),
        metavar="NAME[:VALUE,...]",
        help=f"What to send of each value, from the list below; repeatable.  [default: {default}]",
    )


_DTYPE: _Option = click.option(
    "--dtype",
    metavar="DTYPE",
    help="Send tensors in this type: float16, bfloat16, float8_e4m3fn, ..., or int8 with a scale.",
)
_SLICE: _Option = click.option(
    "--slice",
    "slices",
    multiple=True,
    callback=read_slices,
    metavar="AXIS:START:STOP[:STEP]",
    help="Send only this part of each value; repeatable, once for each axis.",
)
_OUTPUTS: _Option = click.option(
    "--with-output", "outputs", multiple=True, metavar="NAME", help="An output to bring, too; repeatable."
)
_EDIT: _Option = click.option(
    "--edit",
    "edits",
    multiple=True,
    callback=read_edits,
    metavar="'CHANGE SITE...'",
    help="What to write while the network runs, from the list below; repeatable, applied in order.",
)
_GRADIENT: _Option = click.option(
    "--gradient",
    "logit",
    metavar="OUTPUT=INDEX",
    help="Bring gradients of this element of an output, in place of values; one index, or one for each example: 3,1.",
)
_LOSS: _Option = click.option(
    "--loss",
    metavar="OUTPUT=LABEL",
    help="Bring gradients of the softmax cross-entropy against a label, or one for each example.",
)
_WRT: _Option = click.option(
    "--wrt",
    "names",
    multiple=True,
    metavar="NAME",
    help="A parameter, or an input as inputs/NAME, or a glob, to take the gradient with respect to, too; repeatable.",
)
_EXECUTION: _Option = click.option(
    "--execution",
    type=click.Choice(list(EXECUTIONS)),
    default="auto",
    show_default=True,
    help="As one program, or in stages, the first values arriving while the last are computed.",
)
_MAX_BYTES: _Option = click.option(
    "--max-bytes",
    type=int,
    callback=within_64_bits,
    help="Refuse if the values have more bytes.  [default: the server's limit]",
)


def question_options(command: Any) -> Any:  # click's own decorators are as vague
    """Gives a command the options, in this order."""
    reduce = _reduce("full; of a data set, statistics")
    return _with(
        command, SITES, reduce, _DTYPE, KIND, _SLICE, _OUTPUTS, _EDIT, _GRADIENT, _LOSS, _WRT, _EXECUTION, _MAX_BYTES
    )


def parameter_options(command: Any) -> Any:  # as above
    """Gives a command those of the options that mean something for parameters."""
    return _with(command, SITES, _reduce("statistics; with --output, full"), _DTYPE, _SLICE, _MAX_BYTES)


def _with(command: Any, *options: _Option) -> Any:
    for option in reversed(options):
        command = option(command)
    return command
