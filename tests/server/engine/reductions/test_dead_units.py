"""Counts of zeros on the device, against NumPy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import assume, given, settings

from fluoroscope_server.engine import DeadUnits
from fluoroscope_server.errors import InvalidRequestError

from .samples import DTYPES, sample, samples

if TYPE_CHECKING:
    from .samples import Sample


@settings(deadline=None, max_examples=50)
@given(drawn=samples(dtypes=(*DTYPES, "complex64")))
def test_against_numpy(drawn: Sample) -> None:
    assume(drawn.axis != drawn.padded.ndim - 1)
    (found,) = drawn.reduce(DeadUnits())
    zero = drawn.kept == 0
    np.testing.assert_array_equal(found, zero.sum(axis=tuple(range(zero.ndim - 1))))
    assert found.dtype == np.int32


def test_a_unit_is_dead_over_a_data_set_if_it_is_dead_in_each_batch() -> None:
    generator = np.random.default_rng(0)
    data = np.maximum(generator.normal(-1, 1, (40, 3, 30)), 0).astype(np.float32)
    data[:, :, ::7] = 0
    batches = [
        sample(data[:13]),
        sample(data[13:14], axis=0),
        sample(np.concatenate([data[14:], data[:5]]), axis=0, rows=26),
    ]
    counts = sum(each.reduce(DeadUnits())[0] for each in batches)
    dead = np.flatnonzero(counts == 40 * 3)
    np.testing.assert_array_equal(dead, np.flatnonzero((data == 0).all(axis=(0, 1))))
    assert len(dead) >= 5


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (sample(np.zeros((), np.float32)), "is a scalar, and dead units are along the last axis"),
        (sample(np.zeros(9, np.float32), axis=0), "the last axis of site 'Dense_0' is the batch, and dead units"),
    ],
)
def test_what_it_refuses(asked: Sample, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        asked.reduce(DeadUnits())
