"""The options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def within_64_bits(_: click.Context, parameter: click.Parameter, value: int | None) -> int | None:
    """Refuses a number that the contract has no room for; a callback of options."""
    if value is not None and not 0 <= value < 1 << 63:
        raise click.BadParameter(f"{value} is not from 0 to 2**63 - 1.", param=parameter)
    return value


_COMPUTED = ("module", "named", "equation", "input")


def _kind(names: Sequence[str], more: str = "") -> Callable[[Any], Any]:
    choice = click.Choice(names, case_sensitive=False)
    return click.option(
        "--kind", "kinds", multiple=True, type=choice, help=f"Keep only sites of this kind; repeatable.{more}"
    )


KIND = _kind(_COMPUTED, " For parameters, there is `fluoroscope params`.")
"""The kinds of what a network computes."""

ANY_KIND = _kind((*_COMPUTED, "parameter"))
"""Those, and the parameters, which can be listed beside them."""

SITES = click.option("--sites", "globs", multiple=True, metavar="GLOB", help="Sites to look at, like GLOB; repeatable.")

VERSION = click.option(
    "--version", type=int, callback=within_64_bits, help="The checkpoint step.  [default: the one that serves]"
)

LABEL = click.option("--label", metavar="NAME", help="The label of the version, in place of its number.")

CAST = click.option("--cast", is_flag=True, help="Convert arrays of another dtype than the model's.")

OUTPUT = click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the arrays to FILE.npz by name, or a single one to FILE.npy. FILE appears when it is whole.",
)
