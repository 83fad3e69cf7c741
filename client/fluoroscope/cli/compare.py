"""`fluoroscope compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fluoroscope.cli.assignment import INPUTS, is_input, read_inputs
from fluoroscope.cli.ending import DIVERGES, epilog
from fluoroscope.cli.form import print_json
from fluoroscope.cli.options import CAST, KIND, SITES
from fluoroscope.cli.session import Session, session_options
from fluoroscope.cli.table import print_table, shape_cell

if TYPE_CHECKING:
    from fluoroscope.calls import Comparison, SiteComparison
    from fluoroscope.calls.compare import Version

_EXAMPLES = """Examples:
  fluoroscope compare digits image=@x.npy --versions 100,200             where do two checkpoints part?
  fluoroscope compare digits image=@a.npy --with image=@b.npy 'Dense_*'  what tells two inputs apart?
  fluoroscope compare digits image=@x.npy --versions 100,200 '**' --rtol 1e-3 --check"""

_NUMBERS = ("max abs", "max rel", "mean abs", "rms", "cosine", "identical", "divergent")


def _versions(_: click.Context, __: click.Parameter, text: str | None) -> tuple[Version, Version] | None:
    if text is None:
        return None
    words = text.split(",")
    if len(words) != 2 or not all(words):
        raise click.BadParameter(f"{text!r} is not FIRST,SECOND, such as 100,200.")
    first, second = (int(word) if word.isascii() and word.isdigit() else word for word in words)
    return first, second


@click.command(
    short_help="Compares two versions of MODEL, or two inputs, site by site.", epilog=epilog(_EXAMPLES, INPUTS)
)
@click.argument("model")
@click.argument("words", nargs=-1, metavar="[INPUT=VALUE]... [GLOB]...")
@SITES
@KIND
@click.option(
    "--with",
    "others",
    multiple=True,
    metavar="INPUT=VALUE",
    help="An input of the second side; repeatable.  [default: both sides run on the same inputs]",
)
@click.option(
    "--versions",
    metavar="FIRST,SECOND",
    callback=_versions,
    help="The checkpoint steps, or labels, to compare.  [default: the one that serves, on both sides]",
)
@click.option(
    "--rtol", type=float, default=1e-5, show_default=True, help="How far apart elements may be: this part of |b|,"
)
@click.option("--atol", type=float, default=1e-8, show_default=True, help="and so much besides.")
@click.option("--check", is_flag=True, help="Exit with 5 if a site diverges.")
@CAST
@session_options()
def compare(
    model: str,
    words: tuple[str, ...],
    *,
    globs: tuple[str, ...],
    kinds: tuple[str, ...],
    others: tuple[str, ...],
    versions: tuple[Version, Version] | None,
    rtol: float,
    atol: float,
    check: bool,
    cast: bool,
) -> None:
    """Compares what two versions of MODEL, or one on two inputs, compute inside, site by site.

    GLOB names sites, as for `inspect`; none given means every site that is the output of a module. An element
    diverges if |a - b| > atol + rtol * |b|, a being the first side and b the second, and if only one of the
    two is NaN. The relative difference is |a - b| / |b|.
    """
    if not others and versions is None:
        raise click.UsageError("there is nothing to compare with: give --versions FIRST,SECOND, or --with INPUT=VALUE.")
    sites = [*globs, *(word for word in words if not is_input(word))]
    session = Session.current()
    with session.client() as client:
        described = client.model(model)
        found = client.compare(
            model,
            read_inputs(filter(is_input, words), described, cast=cast),
            read_inputs(others, described, cast=cast) if others else None,
            versions=versions,
            sites=sites or "**",
            kinds=kinds or (() if sites else ("module",)),
            rtol=rtol,
            atol=atol,
        )
    if session.json:
        _print_json(found)
    else:
        _print(found)
    if check and found.first_divergence is not None:
        click.get_current_context().exit(DIVERGES)


def _print_json(found: Comparison) -> None:
    print_json(
        {
            "model": found.model,
            "versions": found.versions,
            "digests": found.digests,
            "rows": found.rows,
            "rtol": found.rtol,
            "atol": found.atol,
            "first_divergence": found.first_divergence,
            "sites": list(found.values()),
            "not_compared": found.not_compared,
            "programs": found.programs,
            "stages": found.stages,
        }
    )


def _print(found: Comparison) -> None:
    """Prints a comparison for people."""
    mismatches = any(each.nan_mismatch_count or each.inf_mismatch_count for each in found.values())
    heads = (*_NUMBERS, *(("NaN", "Inf") if mismatches else ()))
    rows = [_cells(each, mismatches=mismatches) for each in found.values()]
    print_table(("site", "kind", "dtype", "shape", *heads), rows, numbers=heads)
    for site, reason in found.not_compared.items():
        click.echo(f"not compared: {site}: {reason}")
    first, second = found.versions
    what = f"version {first}" if first == second else f"versions {first} and {second}"
    where = (
        "no site diverges" if found.first_divergence is None else f"the first to diverge is {found.first_divergence}"
    )
    click.echo(f"{what}, {found.rows} rows, {len(found)} sites: {where}")


def _cells(each: SiteComparison, *, mismatches: bool) -> tuple[str, ...]:
    numbers = (
        each.max_abs_difference,
        each.max_relative_difference,
        each.mean_abs_difference,
        each.rms_difference,
    )
    return (
        each.site,
        each.kind.lower(),
        " and ".join(dict.fromkeys(map(str, each.dtypes))),
        shape_cell(each.shape),
        *(f"{number:.3g}" for number in numbers),
        f"{each.cosine_similarity:.6f}",
        f"{each.identical_count / each.count:.1%}" if each.count else "",
        str(each.divergent_count),
        *((str(each.nan_mismatch_count), str(each.inf_mismatch_count)) if mismatches else ()),
    )
