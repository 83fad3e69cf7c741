"""Gradients as words of the command line: `logits=4`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import numpy as np

from fluoroscope.calls import Gradient
from fluoroscope.cli.source import Numbers, read_value

if TYPE_CHECKING:
    from collections.abc import Sequence

PREFIX = "inputs/"
"""What tells an input from a parameter, among the names to take a gradient with respect to."""


def read_gradient(logit: str | None, loss: str | None, names: Sequence[str]) -> Gradient | None:
    """Returns the gradient that options ask for, if they do.

    Args:
        logit: `OUTPUT=INDEX`, of --gradient.
        loss: `OUTPUT=LABEL`, of --loss.
        names: Inputs and parameters, of --wrt.

    Raises:
        click.UsageError: They do not go together, or are none.
    """
    if logit is None and loss is None:
        if names:
            raise click.UsageError("--wrt says with respect to what; say of what with --gradient or --loss.")
        return None
    if logit is not None and loss is not None:
        raise click.UsageError("--gradient and --loss are two scalars; ask for one of them.")
    option = "--gradient" if loss is None else "--loss"
    output, equals, text = (logit or loss or "").partition("=")
    if not (output and equals and text):
        raise click.UsageError(f"{option} {logit or loss!r}: expected OUTPUT=INDEX, such as logits=4.")
    indices = _indices(text, option)
    return Gradient(
        output,
        index=indices if loss is None else None,
        labels=None if loss is None else indices,
        inputs=[name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)],
        parameters=[name for name in names if not name.startswith(PREFIX)],
    )


def _indices(text: str, option: str) -> np.ndarray:
    if not text.startswith(("@", "[")):
        text = f"[{text}]" if "," in text else text
    value = read_value(text, name=option)
    array = np.asarray(value.values if isinstance(value, Numbers) else value)
    if array.dtype.kind not in "iu":
        raise click.UsageError(f"{option}: {text} is {array.dtype}; expected whole numbers, such as 4 or 3,1.")
    return array
