"""What no shape tells of the rows of a batch: the network is run to find out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluoroscope_server.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Lab

Function = "Callable[[jax.Array], jax.Array]"


def _converged(x: jax.Array) -> jax.Array:
    result: jax.Array = jax.lax.while_loop(lambda s: jnp.max(jnp.abs(s)) > 0.1, lambda s: s * 0.5, x)
    return result


def _over_the_batch(x: jax.Array) -> jax.Array:
    kernel = jnp.ones((3, x.shape[1], x.shape[1]), x.dtype)
    return jax.lax.conv_general_dilated(x[None], kernel, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"))[0]


def _in_pieces(x: jax.Array) -> jax.Array:
    return jnp.concatenate([x[index : index + 1] - x.mean(0, keepdims=True) for index in range(len(x))])


MIXED: dict[str, Any] = {
    "sort": lambda x: jnp.sort(x, axis=0),
    "order": lambda x: jnp.take(x, jnp.argsort(x[:, 0]), axis=0),
    "reverse": lambda x: x - x[::-1],
    "cumulative": lambda x: jnp.cumsum(x, axis=0),
    "associative": lambda x: jax.lax.associative_scan(jnp.add, x),
    "window": lambda x: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (2, 1), (1, 1), "SAME"),
    "convolution": _over_the_batch,
    "loop": _converged,
    "branch": lambda x: jax.lax.cond(x.sum() > -jnp.inf, lambda y: y - y.mean(0, keepdims=True), lambda y: y, x),
    "pieces": _in_pieces,
    "carried": lambda x: jax.lax.scan(lambda carry, row: (carry + row, carry + row), jnp.zeros(x.shape[1]), x)[1],
}

APART: dict[str, Any] = {
    "picked": lambda x: x[jnp.arange(len(x)), jnp.argmax(x, axis=-1)][:, None],
    "sort of features": lambda x: jnp.sort(x, axis=1),
    "softmax": lambda x: jax.nn.softmax(x, axis=-1),
    "counted": lambda x: jax.lax.fori_loop(0, 3, lambda index, state: state * (1.0 + index), x),
    "counted while": lambda x: jax.lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] * 0.5), (0, x))[1],
    "steps": lambda x: jax.lax.scan(lambda s, _: ((s[0] * 0.5, s[1] + 1), None), (x, 0), length=3)[0][0],
    "weights": lambda x: jax.lax.scan(lambda c, w: (c * w, w * 2), x, jnp.ones((3, 1, 4)))[0],
    "row by row": lambda x: jax.lax.map(lambda row: jnp.sin(row) * row.sum(), x),
    "in batches": lambda x: jax.lax.map(jnp.sin, x, batch_size=4),
}


def probed(function: Any, function_lab: Callable[..., Lab]) -> Lab:
    lab = function_lab(lambda _, inputs: function(inputs["x"]), buckets=(4, 6))
    lab.engine.probe_rows()
    return lab


@pytest.mark.parametrize("name", MIXED)
def test_rows_that_are_mixed(name: str, function_lab: Callable[..., Lab]) -> None:
    lab = probed(MIXED[name], function_lab)
    assert lab.engine.joined_rows == 0
    with pytest.raises(InvalidRequestError, match="mixes the rows of a batch"):
        lab.engine.bucket_for(3)


@pytest.mark.parametrize("name", APART)
def test_rows_that_are_kept_apart(name: str, function_lab: Callable[..., Lab]) -> None:
    lab = probed(APART[name], function_lab)
    assert lab.engine.joined_rows == 6
    assert lab.engine.bucket_for(3) == 4


def test_rows_whose_answers_depend_on_their_place(function_lab: Callable[..., Lab]) -> None:
    """They may be padded, since what fills a bucket comes behind them, but nobody else may come before them."""
    lab = probed(lambda x: x + jnp.arange(len(x), dtype=x.dtype)[:, None], function_lab)
    assert lab.engine.joined_rows == 0
    assert lab.engine.bucket_for(3) == 4


@pytest.mark.parametrize("name", ["cumulative", "carried", "pieces"])
def test_rows_that_would_be_mixed_are_not_parted(name: str, function_lab: Callable[..., Lab]) -> None:
    """Where the only bucket has one row, several would be answered one by one."""
    lab = function_lab(lambda _, inputs: MIXED[name](inputs["x"]), buckets=(1,))
    lab.engine.probe_rows()
    assert lab.engine.joined_rows == 0
    assert lab.engine.bucket_for(1) == 1


@pytest.mark.parametrize(("name", "compiled"), [("softmax", 1), ("row by row", 1), ("counted while", 2)])
def test_rows_that_are_apart_may_be_parted(name: str, compiled: int, function_lab: Callable[..., Lab]) -> None:
    """Two rows are compiled only where tracing leaves a doubt."""
    lab = function_lab(lambda _, inputs: APART[name](inputs["x"]), buckets=(1,))
    lab.engine.probe_rows()
    assert lab.engine.joined_rows == 1
    assert len(lab.compiled) == compiled


def test_before_it_is_probed_what_cannot_be_told_counts_as_mixed(function_lab: Callable[..., Lab]) -> None:
    assert function_lab(lambda _, inputs: jnp.cumsum(inputs["x"], axis=0), buckets=(4, 6)).engine.joined_rows == 0
    lab = function_lab(lambda _, inputs: jax.lax.map(jnp.sin, inputs["x"], batch_size=4), buckets=(4, 6))
    assert lab.engine.joined_rows == 0
    lab.engine.probe_rows()
    assert lab.engine.joined_rows == 6
    x = np.ones((4, 4), np.float32)
    np.testing.assert_allclose(np.asarray(lab.engine.predict(4, [x])[0]), np.sin(x), rtol=1e-6)


@pytest.mark.parametrize("buckets", [(1, 4), (4, 6), (2, 4, 6)])
@pytest.mark.parametrize(
    "function",
    [
        lambda x: x / x.shape[0],
        lambda x: x ** x.shape[0],
        lambda x: x * jnp.asarray(np.full((1, 4), x.shape[0], np.float32)),
        lambda x: x + jnp.ones(x.shape[0]).sum(),
    ],
    ids=["divided", "to the power", "a constant", "counted"],
)
def test_answers_that_depend_on_how_many_rows_there_are(
    function: Callable[[jax.Array], jax.Array], buckets: tuple[int, ...], function_lab: Callable[..., Lab]
) -> None:
    """No row depends on another, and yet nobody may be joined, or padded, without another answer."""
    lab = function_lab(lambda _, inputs: function(inputs["x"]), buckets=buckets)
    lab.engine.probe_rows()
    assert lab.engine.joined_rows == 0
    with pytest.raises(InvalidRequestError, match="this network mixes the rows of a batch"):
        lab.engine.bucket_for(3)
