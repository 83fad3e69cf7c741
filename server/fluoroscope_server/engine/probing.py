"""Probing: whether the rows of a batch are kept apart, as the network itself shows.

No shape tells of what acts along the axis of the batch and keeps it: a sort, a cumulative sum, a convolution over the
rows, a loop that goes on until all of them have converged. So the network is run on batches that differ in some rows,
and in their order.
"""

from __future__ import annotations

import enum
import functools
import itertools
from typing import TYPE_CHECKING

import jax.numpy as jnp
import ml_dtypes
import numpy as np

from fluoroscope_server.signature import BATCH

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import jax

    from fluoroscope_server.signature import Signature, TensorSpec

    Predict = Callable[[int, Sequence[np.ndarray]], tuple[jax.Array, ...]]

_SEED = 8500
_LARGE = 10.0
"""How many times larger the other rows are made: what goes on until all have converged takes longer then. Numbers that
are larger still could keep it from ever converging."""


class Rows(enum.Enum):
    """What the rows of a batch have to do with each other."""

    APART = "apart"
    """Nothing: each has the answer that it would have alone."""

    PLACED = "placed"
    """The answer to one depends on its place in the batch, not on the others: nobody else may come before it."""

    MIXED = "mixed"
    """The answer to one depends on others, or on how many there are."""


def probe(predict: Predict, signature: Signature, bucket: int) -> Rows:
    """Runs a network a few times on small numbers and large ones; tells what its rows have to do with each other.

    Floats are drawn around 0, and integers from 0 and 1: tokens and classes that every network knows.

    Args:
        predict: runs it, as `Engine.predict` does.
        signature: its inputs and outputs.
        bucket: how many rows a batch has, two at least.
    """
    generator = np.random.default_rng(_SEED)
    answers = functools.partial(_answers, predict, signature)
    first = [_drawn(spec, bucket, generator, 1.0) for spec in signature.inputs]
    want = answers(first)
    for row, scale in itertools.product((0, -1), (1.0, _LARGE)):
        others = [_drawn(spec, bucket, generator, scale) for spec in signature.inputs]
        for mine, other in zip(first, others, strict=True):
            other[row] = mine[row]
        if not all(_alike(a[row], b[row], root=2) for a, b in zip(want, answers(others), strict=True)):
            return Rows.MIXED
    moved = answers([np.roll(each, 1, axis=0) for each in first])
    same = all(_alike(a, np.roll(b, -1, axis=0), root=3) for a, b in zip(want, moved, strict=True))
    return Rows.APART if same else Rows.PLACED


def alike_in(predict: Predict, signature: Signature, small: int, large: int) -> bool:
    """Runs the same rows in batches of two sizes; tells whether their answers are the same in both."""
    generator = np.random.default_rng(_SEED)
    inputs = [_drawn(spec, large, generator, 1.0) for spec in signature.inputs]
    some, every = (_answers(predict, signature, [each[:rows] for each in inputs]) for rows in (small, large))
    return all(_alike(a, b[:small], root=3) for a, b in zip(some, every, strict=True))


def _answers(predict: Predict, signature: Signature, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns the outputs of inputs whose first axis is that of the batch; so is theirs, if they have it."""
    placed = [np.moveaxis(each, 0, _axis(spec)) for spec, each in zip(signature.inputs, inputs, strict=True)]
    outputs = zip(signature.outputs, predict(len(inputs[0]), placed), strict=True)
    return [np.moveaxis(np.asarray(each), _axis(spec), 0) for spec, each in outputs if BATCH in spec.shape]


def _axis(spec: TensorSpec) -> int:
    return spec.shape.index(BATCH)


def _drawn(spec: TensorSpec, rows: int, generator: np.random.Generator, scale: float) -> np.ndarray:
    drawn = np.moveaxis(generator.normal(size=spec.with_rows(rows)), _axis(spec), 0)
    if jnp.issubdtype(spec.dtype, jnp.inexact):
        return (scale * drawn).astype(spec.dtype)
    return (drawn > 0).astype(spec.dtype)


def _alike(one: np.ndarray, other: np.ndarray, *, root: int) -> bool:
    """Returns whether two values are the same but for rounding.

    Of numbers with fractions, they may be apart by this root of the type's epsilon, as a share of the largest: in
    another place of a batch, a device may compute in other pieces.
    """
    wide = np.complex128 if one.dtype.kind == "c" else np.float64
    first, second = one.astype(wide), other.astype(wide)
    finite = np.isfinite(first)
    if not np.array_equal(first[~finite], second[~finite], equal_nan=True):
        return False
    size = float(np.max(np.abs(first[finite]), initial=0.0))
    return bool(np.all(np.abs(first[finite] - second[finite]) <= _epsilon(one.dtype) ** (1 / root) * size))


def _epsilon(dtype: np.dtype) -> float:
    """Returns the step behind 1 of a type; 0 if it has no fractions."""
    if not jnp.issubdtype(dtype, jnp.inexact):
        return 0.0
    return float(ml_dtypes.finfo(dtype).eps)  # type: ignore[no-untyped-call]  # it ships no types
