"""`fluoroscope predict`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import numpy as np

from fluoroscope.cli.assignment import INPUTS, read_inputs
from fluoroscope.cli.ending import epilog
from fluoroscope.cli.form import print_json
from fluoroscope.cli.options import CAST, LABEL, OUTPUT, VERSION
from fluoroscope.cli.output import writing
from fluoroscope.cli.session import Session, session_options
from fluoroscope.cli.table import shape_cell

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


_EXAMPLES = """Examples:
  fluoroscope predict digits image=@seven.png
  fluoroscope predict digits image=@batch.npy --output logits.npz
  fluoroscope predict iris 'x=[[5.1, 3.5, 1.4, 0.2]]' --json
  curl -s https://example.com/x.npy | fluoroscope predict digits -"""


@click.command(epilog=epilog(_EXAMPLES, INPUTS))
@click.argument("model")
@click.argument("inputs", nargs=-1, metavar="[INPUT=VALUE]...")
@click.option("--only", "outputs", multiple=True, metavar="NAME", help="An output to ask for; repeatable.")
@VERSION
@LABEL
@CAST
@OUTPUT
@session_options()
def predict(
    model: str,
    inputs: tuple[str, ...],
    *,
    outputs: tuple[str, ...],
    version: int | None,
    label: str | None,
    cast: bool,
    output: Path | None,
) -> None:
    """Computes the outputs of MODEL."""
    session = Session.current()
    with session.client() as client:
        described = client.model(model, version=version, label=label)
        arrays = read_inputs(inputs, described, cast=cast)
        answer = client.predict(model, arrays, outputs=outputs, version=version, label=label)
    if output is not None:
        with writing(output) as file:
            for name, array in answer.items():
                file.add(name, array)
    if session.json:
        shown = {} if output is not None else {"outputs": answer}
        print_json({"model": model, **shown, **({"output": str(output)} if output is not None else {})})
    elif output is None:
        _print(answer)


def _print(answer: Mapping[str, np.ndarray]) -> None:
    for name, array in answer.items():
        click.echo(f"{name}: {array.dtype}, {shape_cell(array.shape)}")
        click.echo(np.array2string(array, precision=6, suppress_small=True, threshold=1000, max_line_width=100))
