"""The inputs of a request: checked against a signature, and padded to a bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fluoroscope_server.errors import InvalidRequestError, counted, nearest, quoted
from fluoroscope_server.signature import describe

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fluoroscope_server.signature import Signature, TensorSpec


def check_inputs(inputs: Mapping[str, np.ndarray], signature: Signature) -> int:
    """Returns how many rows the inputs have.

    Raises:
        InvalidRequestError: an input is missing, unknown, or of the wrong dtype or shape, or the
            inputs differ in their number of rows; the message says what came and what is expected.
    """
    check_input_names(inputs, signature)
    rows = None
    for spec in signature.inputs:
        array = inputs.get(spec.name)
        if array is None:
            raise InvalidRequestError(
                f"input {spec.name!r} is missing; expected {spec}", field=f"inputs[{spec.name}]", reason="INPUT_MISSING"
            )
        check_input(array.dtype, array.shape, spec)
        if rows is not None and len(array) != rows:
            raise InvalidRequestError(
                f"input {spec.name!r} has {counted(len(array), 'row')}, and {signature.inputs[0].name!r} has {rows}: "
                "all inputs must have the same number of rows",
                field=f"inputs[{spec.name}]",
            )
        rows = len(array)
    return rows or 0


def check_input_names(names: Iterable[str], signature: Signature, *, field: str = "inputs") -> None:
    """Raises InvalidRequestError, which blames an entry of `field`, if a name is none that the signature has."""
    for name in names:
        if name not in signature.input_names:
            raise InvalidRequestError(
                f"there is no input {quoted(name)}; nearest: {nearest(name, signature.input_names)}",
                field=f"{field}[{name}]",
                reason="INPUT_NOT_FOUND",
            )


def check_input(dtype: np.dtype, shape: tuple[int, ...], spec: TensorSpec) -> None:
    """Raises InvalidRequestError if an array of this dtype and shape is not what an input must be."""
    if dtype == spec.dtype and len(shape) == len(spec.shape) and shape[0] > 0 and shape[1:] == spec.shape[1:]:
        return
    came, field = describe(dtype, shape), f"inputs[{spec.name}]"
    if dtype != spec.dtype:
        hint, reason = f"convert it to {spec.dtype} first", "WRONG_DTYPE"
    elif shape == spec.shape[1:]:
        hint, reason = "the batch axis is missing: send a single example with shape (1, ...)", "WRONG_SHAPE"
    elif shape and shape[0] == 0 and len(shape) == len(spec.shape):
        hint, reason = "a batch holds at least one row", "WRONG_SHAPE"
    else:
        hint, reason = "the first axis is the batch, and every other size must agree", "WRONG_SHAPE"
    raise InvalidRequestError(
        f"input {spec.name!r} came as {came}, expected {describe(spec.dtype, spec.shape)}: {hint}",
        field=field,
        reason=reason,
    )


def pad_inputs(requests: Sequence[Mapping[str, np.ndarray]], signature: Signature, bucket: int) -> list[np.ndarray]:
    """Returns the inputs of requests behind each other, in the order of the signature, with zeros up to `bucket` rows.

    Nothing is copied if there is one request and it fills the bucket.
    """
    padded = []
    for name in signature.input_names:
        first = requests[0][name]
        whole = len(first) == bucket
        padded.append(first if whole else _pad([inputs[name] for inputs in requests], bucket))
    return padded


def _pad(arrays: Sequence[np.ndarray], bucket: int) -> np.ndarray:
    first = arrays[0]
    padded = np.empty((bucket, *first.shape[1:]), first.dtype)
    end = 0
    for array in arrays:
        start, end = end, end + len(array)
        padded[start:end] = array
    padded[end:] = 0
    return padded
