"""`fluoroscope-server seal`."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fluoroscope_server.commands.ending import explained, without_accelerator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

EPILOG = """\b
Examples:
  fluoroscope-server seal checkpoints/digits
  fluoroscope-server seal checkpoints/digits 440 460

\b
Then let the server insist on it:
  fluoroscope-server serve --model digits=checkpoints/digits --require-seal
"""


@click.command(epilog=EPILOG)
@click.argument("path", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("steps", metavar="[STEP]...", nargs=-1, type=click.IntRange(0))
def seal(path: Path, steps: Sequence[int]) -> None:
    """Seals checkpoints, so that no byte of them changes unnoticed.

    PATH is a folder of steps, or one checkpoint. Without a STEP, all committed steps without a seal are sealed. A STEP
    that has one already is compared with it.

    A digest of every file is written beside the folder of the step, as STEP.fluoroscope.json; nothing is written into
    it. Whenever the server loads a sealed step, it compares.
    """
    without_accelerator()
    with explained():
        from fluoroscope_server.checkpoints import unsealed_steps  # noqa: PLC0415 (JAX takes seconds to import)

        chosen = steps or unsealed_steps(path)
        if not chosen:
            click.echo(f"{path}: every committed step is sealed already", err=True)
        for step in chosen:
            _seal(path, step)


def _seal(path: Path, step: int) -> None:
    from fluoroscope_server.checkpoints import seal as seal_step  # noqa: PLC0415 (JAX takes seconds to import)

    with _bar(f"step {step}") as progress:
        sealed = seal_step(path, step, progress=progress)
    content = sealed.content
    done = "was sealed already, and is whole" if sealed.sealed else "sealed"
    click.echo(f"{sealed.place}: {done}, {len(content.files):,} files, {content.byte_size:,} bytes, {content.digest}")


@contextlib.contextmanager
def _bar(label: str) -> Iterator[Callable[[int, int], None] | None]:
    """Shows how much of a step was read, to people who watch."""
    if not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=1, label=label, file=sys.stderr) as bar:

        def show(count: int, total: int) -> None:
            bar.length = total
            bar.update(count)

        yield show
