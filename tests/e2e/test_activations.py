"""What is captured is what the network itself hands out, bit for bit."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import jax
import numpy as np
import pytest

import fluoroscope
from fluoroscope_server.families.activation import ACTIVATIONS

from .conftest import BUCKETS, CLASSES, HIDDEN
from .saved import base_network, batch

if TYPE_CHECKING:
    from .conftest import Saved

COUNT = 2 * len(HIDDEN) + 1


def returned(checkpoints: Saved, act_fn: str, x: np.ndarray) -> list[np.ndarray]:
    """Returns the list that `return_activations=True` returns, of the network outside any server."""
    network = base_network(act_fn, HIDDEN, CLASSES)
    apply = jax.jit(partial(network.apply, return_activations=True))
    logits, activations = apply(checkpoints.base[act_fn], x)
    assert np.array_equal(logits, activations[-1])
    return [np.asarray(each) for each in activations]


def same_bits(found: np.ndarray | None, expected: np.ndarray) -> bool:
    return (
        found is not None
        and (found.dtype, found.shape) == (expected.dtype, expected.shape)
        and found.tobytes() == expected.tobytes()
    )


@pytest.mark.parametrize("act_fn", ACTIVATIONS)
def test_the_activations_are_those_that_the_network_returns(
    client: fluoroscope.Client, checkpoints: Saved, act_fn: str
) -> None:
    x = batch(BUCKETS[-1], seed=1)
    expected = returned(checkpoints, act_fn, x)

    found = client.inspect(act_fn, {"x": x}, sites="activations/*", outputs=["logits"])

    assert list(found) == [f"activations/{index}" for index in range(COUNT)]
    assert len(expected) == COUNT
    assert all(same_bits(found[site].array, value) for site, value in zip(found, expected, strict=True))
    assert same_bits(found.outputs["logits"], expected[-1])
    assert same_bits(client.predict(act_fn, {"x": x})["logits"], expected[-1])
    changes = not np.array_equal(expected[0], expected[1])
    assert changes == (act_fn != "identity"), "an activation function that does nothing would hide a mistake"


@pytest.mark.parametrize("act_fn", ["relu", "swish"])
@pytest.mark.parametrize("rows", [1, 3, 5, 7])
def test_rows_that_only_fill_a_bucket_are_not_seen(
    client: fluoroscope.Client, checkpoints: Saved, act_fn: str, rows: int
) -> None:
    x = batch(rows, seed=rows)
    bucket = min(size for size in BUCKETS if size >= rows)
    padded = np.zeros((bucket, *x.shape[1:]), x.dtype)
    padded[:rows] = x
    expected = [value[:rows] for value in returned(checkpoints, act_fn, padded)]

    found = client.inspect(act_fn, {"x": x}, sites="activations/*")

    assert found.rows == rows
    assert found.program.bucket == bucket
    assert all(same_bits(found[site].array, value) for site, value in zip(found, expected, strict=True))


def test_modules_and_functions_are_sites_in_execution_order(client: fluoroscope.Client, checkpoints: Saved) -> None:
    x = batch(BUCKETS[-1], seed=2)
    expected = returned(checkpoints, "relu", x)

    dense = client.inspect("relu", {"x": x}, sites="Dense_*", kinds="MODULE")
    relu = client.inspect("relu", {"x": x}, sites="relu:*")
    both = client.inspect("relu", {"x": x}, sites=["relu:*", "Dense_*"], kinds=["EQUATION", "MODULE"])

    assert list(dense) == ["Dense_0", "Dense_1", "Dense_2"]
    assert [same_bits(dense[f"Dense_{index}"].array, expected[2 * index]) for index in range(3)] == [True] * 3
    assert list(relu) == ["relu:0", "relu:1"]
    assert [same_bits(relu[f"relu:{index}"].array, expected[2 * index + 1]) for index in range(2)] == [True] * 2
    assert list(both) == ["Dense_0", "relu:0", "Dense_1", "relu:1", "Dense_2"]


def test_a_slice_is_a_part_of_the_value(client: fluoroscope.Client, checkpoints: Saved) -> None:
    x = batch(BUCKETS[-1], seed=3)
    expected = returned(checkpoints, "gelu", x)
    slices = [fluoroscope.Slice(0, 1, 6, 2), fluoroscope.Slice(-1, -3)]

    found = client.inspect("gelu", {"x": x}, sites="activations/*", slices=slices)

    assert [same_bits(found[site].array, value[1:6:2, -3:]) for site, value in zip(found, expected, strict=True)] == [
        True
    ] * COUNT


def test_statistics_describe_the_value(client: fluoroscope.Client, checkpoints: Saved) -> None:
    x = batch(3, seed=4)
    padded = np.zeros((BUCKETS[-1], *x.shape[1:]), x.dtype)
    padded[:3] = x
    expected = [value[:3].astype(np.float64) for value in returned(checkpoints, "relu", padded)]

    found = client.inspect(
        "relu", {"x": x}, sites="activations/*", reduce=[fluoroscope.Statistics(), fluoroscope.Full()]
    )

    for activation, value in zip(found.values(), expected, strict=True):
        statistics = activation.statistics
        assert statistics.count == value.size
        assert statistics.zero_count == (value == 0).sum()
        assert (statistics.nan_count, statistics.inf_count) == (0, 0)
        np.testing.assert_allclose(
            [statistics.mean, statistics.std, statistics.min, statistics.max, statistics.l2_norm],
            [value.mean(), value.std(), value.min(), value.max(), np.linalg.norm(value)],
            rtol=1e-5,
        )
    assert any((value == 0).any() for value in expected)
