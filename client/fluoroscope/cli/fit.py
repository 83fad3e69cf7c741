"""How a value from the command line becomes what the model wants, and what is said of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import numpy as np
from PIL import Image

from fluoroscope.calls import InvalidRequestError
from fluoroscope.calls.inputs import as_dtype
from fluoroscope.calls.model import BATCH
from fluoroscope.cli.picture import as_pixels
from fluoroscope.cli.source import Numbers

if TYPE_CHECKING:
    from fluoroscope.calls import TensorSpec
    from fluoroscope.cli.source import Value


def fit(value: Value, spec: TensorSpec, *, cast: bool) -> np.ndarray:
    """Returns a value in the dtype of an input, with the batch axis that a single example lacks.

    Args:
        value: What was given.
        spec: What the model wants.
        cast: Whether an array of another dtype may be converted.

    Raises:
        click.UsageError: The value cannot be what the model wants; the message says how to make it so.
    """
    if isinstance(value, Numbers):
        try:
            array = as_dtype(value.values, spec.dtype, name=spec.name)
        except InvalidRequestError as error:
            raise click.UsageError(f"{error}.") from None
    elif isinstance(value, Image.Image):
        array = as_pixels(value, spec)
    else:
        array = _typed(value, spec, cast=cast)
    return _with_batch_axis(array, spec)


def _typed(array: np.ndarray, spec: TensorSpec, *, cast: bool) -> np.ndarray:
    if spec.dtype in {array.dtype, array.dtype.newbyteorder("=")}:  # the order of bytes is the machine's own business
        return array
    if spec.dtype is None:
        raise click.UsageError(
            f"the type of {spec.name} is one that this client does not know: install a newer fluoroscope here."
        )
    if not cast:
        raise click.UsageError(
            f"the array for {spec.name} is {array.dtype}; the model wants {spec}.\n"
            f"Give --cast to convert it, or save it as array.astype({str(spec.dtype)!r})."
        )
    try:
        converted = array.astype(spec.dtype)
    except (ValueError, TypeError) as error:
        raise click.UsageError(f"the array for {spec.name} cannot be {spec.dtype}: {error}.") from None
    click.echo(f"{spec.name}: converted from {array.dtype} to {spec.dtype}", err=True)
    return converted


def _with_batch_axis(array: np.ndarray, spec: TensorSpec) -> np.ndarray:
    if array.ndim != len(spec.shape) - 1 or BATCH not in spec.shape:
        return array  # whatever it is, the server says best what it should be
    return np.expand_dims(array, spec.shape.index(BATCH))
