"""`fluoroscope-server check`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fluoroscope_server.commands.ending import explained, without_accelerator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fluoroscope_server.serving.checking import Report

EPILOG = """\b
Examples:
  fluoroscope-server check checkpoints/digits
  fluoroscope-server check --repository checkpoints --deep --require-seal
  fluoroscope-server check checkpoints/digits --json | jq -r '.findings[].message'

\b
Exit codes:
  0  everything that was asked for would be served; there may be notes
  1  something would be refused
  2  there was nothing to check, or the command line is wrong
"""

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command(epilog=EPILOG)
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=_FOLDER)
@click.option("--repository", type=_FOLDER, metavar="DIR", help="Check every folder in DIR that may hold a model.")
@click.option(
    "--family", metavar="FAMILY", help="The family of all these models, if neither config nor model.toml names it."
)
@click.option(
    "--deep",
    is_flag=True,
    help="Do all that a load does: read the weights, too, compile each network and its presets, and run it.",
)
@click.option("--require-seal", is_flag=True, help="Find fault with checkpoints that were not sealed.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def check(
    context: click.Context,
    *,
    paths: Sequence[Path],
    repository: Path | None,
    family: str | None,
    deep: bool,
    require_seal: bool,
    as_json: bool,
) -> None:
    """Checks models without serving them: every step of each PATH, a folder of steps or one checkpoint.

    Reads every file and compares it with the seal, and the stored tree with the network that the config describes.
    Needs no accelerator. Prints one line for each finding.
    """
    if not paths and repository is None:
        raise click.UsageError("Name a PATH, or a --repository.")
    without_accelerator()
    with explained():
        from fluoroscope_server.serving.checking import check_folder, check_model  # noqa: PLC0415 (JAX takes seconds)
        from fluoroscope_server.serving.steps import folders_of_models  # noqa: PLC0415 (JAX takes seconds)

        folders = folders_of_models(repository) if repository else []
        if not paths and not folders:
            click.echo(f"{repository} holds no folder with a model", err=True)
            context.exit(2)
        how: dict[str, Any] = {"family": family, "deep": deep, "require_seal": require_seal}
        reports = [check_model(each, **how) for each in paths] + [check_folder(each, **how) for each in folders]
    if as_json:
        _print_json(reports)
    else:
        _print_lines(reports)
    context.exit(1 if any(report.would_be_refused for report in reports) else 0)


def _print_json(reports: Sequence[Report]) -> None:
    findings = [asdict(finding) for report in reports for finding in report.findings]
    steps = [{"path": str(report.path), "steps": report.steps} for report in reports]
    click.echo(json.dumps({"models": steps, "findings": findings}, indent=2, default=str))


def _print_lines(reports: Sequence[Report]) -> None:
    for finding in (finding for report in reports for finding in report.findings):
        click.echo(str(finding))
    errors = sum(finding.is_error for report in reports for finding in report.findings)
    notes = sum(not finding.is_error for report in reports for finding in report.findings)
    steps = sum(len(report.steps) for report in reports)
    checked = f"{_counted(len(reports), 'model')}, {_counted(steps, 'step')}"
    click.echo(f"{checked}: {_counted(errors, 'error')}, {_counted(notes, 'note')}", err=True)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
