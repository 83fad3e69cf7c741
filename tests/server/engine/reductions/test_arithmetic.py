"""What reductions share."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from fluoroscope_server.engine.reductions.arithmetic import count, count_present, piece_count, power_of_two

from .samples import float32


@pytest.mark.parametrize("size", [0, 1, 1000, 1 << 24, (1 << 24) + 3])
def test_count_is_exact(size: int) -> None:
    found = count(jnp.ones(size, bool))
    assert int(found) == size
    assert found.dtype == jnp.int32


@pytest.mark.parametrize(
    ("size", "pieces"),
    [(0, 1), (1, 1), (1 << 16, 1), (1 << 20, 16), (100 << 16, 100), (3 * 43691, 3), (64 * 65537, 64), (131071, 1)],
)
def test_pieces_are_equal_and_fit_into_a_cache_if_the_size_allows_it(size: int, pieces: int) -> None:
    assert piece_count(size) == pieces


def test_count_present() -> None:
    value = jnp.zeros((2, 4, 3))
    valid = (jnp.arange(4) < 3)[None, :, None]
    assert int(count_present(value, None)) == 24
    assert int(count_present(value, valid)) == 18
    assert int(count_present(value, valid, (0, 2))) == 6
    assert int(count_present(value, valid, (1,))) == 3
    assert int(count_present(jnp.zeros(()), None)) == 1
    assert int(count_present(value[:, :1], valid[:, :1])) == 6, "a bucket of one row has no others"


def test_power_of_two() -> None:
    magnitudes = float32([0, 1e-45, 1e-38, 0.75, 1, 1.5, 2, 3e38, np.inf, np.nan])
    scale, inverse = (np.asarray(each) for each in power_of_two(jnp.asarray(magnitudes)))
    np.testing.assert_array_equal(scale * inverse, 1)
    np.testing.assert_array_equal(scale[3:7], [0.5, 1, 1, 2])
    assert (np.frexp(scale)[0] == 0.5).all()
