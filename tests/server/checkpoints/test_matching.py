"""Where the network's variables are in what training scripts save."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
import pytest

from fluoroscope_server.checkpoints.leaf import LeafSpec
from fluoroscope_server.checkpoints.matching import best_match

if TYPE_CHECKING:
    from fluoroscope_server.checkpoints.matching import Match


def tree(*paths: str, dtype: str = "float32") -> dict[str, LeafSpec]:
    """Each leaf `path` or `path:size`."""
    pairs = (path.partition(":") for path in paths)
    return {path: LeafSpec(shape=(int(size or 1),), dtype=jnp.dtype(dtype)) for path, _, size in pairs}


def under(root: str, *paths: str) -> dict[str, LeafSpec]:
    return tree(*(f"{root}/{path}" for path in paths))


LINEN = tree("params/Dense_0/kernel", "params/Dense_0/bias")
WITH_STATISTICS = LINEN | tree("batch_stats/BatchNorm_0/mean")
NNX = tree("linear/kernel", "norm/mean")
OPTIMIZER = tree("opt_state/0/mu/Dense_0/kernel", "opt_state/0/mu/Dense_0/bias", "opt_state/0/count", "step")


def root_of(match: Match) -> str:
    assert match.is_whole, match
    return match.root


@pytest.mark.parametrize(
    ("stored", "root"),
    [
        (LINEN, ""),
        (tree("Dense_0/kernel", "Dense_0/bias"), ""),
        (LINEN | OPTIMIZER, ""),
        (under("params", *LINEN) | OPTIMIZER, "params"),
        (under("model_params", "Dense_0/kernel", "Dense_0/bias"), "model_params"),
        (under("state", *LINEN, *OPTIMIZER), "state"),
        (under("model/variables", *LINEN), "model/variables"),
        (under("target", "Dense_0/kernel", "Dense_0/bias") | tree("state/step"), "target"),
        (LINEN | under("ema_params", "Dense_0/kernel", "Dense_0/bias"), ""),
        (LINEN | tree("batch_stats/BatchNorm_0/mean", "rng"), ""),
        (tree("params/Dense_0/kernel/value", "params/Dense_0/bias"), ""),
        (under("model_params/params", *LINEN), "model_params/params"),
    ],
)
def test_params_are_found(stored: dict[str, LeafSpec], root: str) -> None:
    match = best_match(stored, LINEN)
    assert root_of(match) == root
    assert list(match.sources) == list(LINEN)
    assert all(
        "opt_state" not in path and "ema" not in path and path.removesuffix("/value").endswith(name[7:])
        for name, path in match.sources.items()
    )


def test_statistics_are_found_beside_the_params() -> None:
    assert root_of(best_match(WITH_STATISTICS | OPTIMIZER, WITH_STATISTICS)) == ""


@pytest.mark.parametrize("box", ["value", "raw_value"])
@pytest.mark.parametrize("root", ["", "model/", "params/", "params/params/"])
def test_nnx_state_is_found(box: str, root: str) -> None:
    stored = tree(*(f"{root}{name}/{box}" for name in NNX))
    assert best_match(stored, NNX).sources == {name: f"{root}{name}/{box}" for name in NNX}
    assert root_of(best_match(stored, NNX)) == root.rstrip("/")


def test_random_streams_are_ignored() -> None:
    streams = tree("dropout/rngs/key/value", "dropout/rngs/count/value", "rngs/a/key", "rngs/a/count", dtype="uint32")
    stored = tree(*(f"{name}/value" for name in NNX)) | streams
    assert best_match(stored, NNX).is_whole


def test_random_streams_are_read_when_expected() -> None:
    stream = tree("dropout/rngs/key", "dropout/rngs/count", dtype="uint32")
    assert set(best_match(NNX | stream, NNX | stream).sources) == set(NNX | stream)


def test_parameters_called_key_and_count_are_no_random_stream() -> None:
    match = best_match(NNX | tree("attention/key", "attention/count"), NNX)
    assert match.extra == ("attention/key", "attention/count")


def test_parameter_called_value_stays() -> None:
    attention = tree("query/kernel", "value")
    assert best_match(attention, attention).sources == {"query/kernel": "query/kernel", "value": "value"}


def test_leaves_that_would_get_one_name_are_not_unboxed() -> None:
    match = best_match(tree("w/value", "w/raw_value"), tree("w"))
    assert match.missing == ("w",)


def test_missing_wrong_and_extra() -> None:
    stored = tree("params/Dense_0/kernel:5", "params/Dense_1/kernel", "batch_stats/BatchNorm_0/mean") | OPTIMIZER
    match = best_match(stored, WITH_STATISTICS)
    assert match.missing == ("params/Dense_0/bias",)
    assert match.wrong == ("params/Dense_0/kernel",)
    assert match.extra == ("params/Dense_1/kernel",)


def test_extra_collection_is_no_error() -> None:
    assert best_match(WITH_STATISTICS, LINEN).is_whole


def test_extra_module_of_a_tree_without_collections_is_an_error() -> None:
    assert best_match(NNX | tree("head/kernel"), NNX).extra == ("head/kernel",)


def test_training_state_beside_a_tree_without_collections_is_no_error() -> None:
    assert best_match(NNX | OPTIMIZER, NNX).is_whole


def test_network_inside_another_is_not_taken_for_it() -> None:
    stored = tree("params/model/Dense_0/kernel", "params/model/Dense_0/bias", "params/head/kernel")
    match = best_match(stored, LINEN)
    assert not match.is_whole


@pytest.mark.parametrize("root", ["model", "params"])
def test_what_fits_better_further_inside_is_not_taken(root: str) -> None:
    assert best_match(NNX | under(root, *NNX), NNX).extra == tuple(under(root, *NNX))
    resized = {name: LeafSpec(shape=(9,), dtype=spec.dtype) for name, spec in NNX.items()}
    assert best_match(resized | under(root, *NNX), NNX).wrong == tuple(NNX)


def test_other_names_need_a_prefix() -> None:
    stored = LINEN | under("ema_params", "Dense_0/kernel", "Dense_0/bias")
    match = best_match(stored, LINEN, prefix="/ema_params/")
    assert match.sources == {name: name.replace("params", "ema_params") for name in LINEN}
    assert root_of(match) == "ema_params"


def test_prefix_wins_even_if_it_is_wrong() -> None:
    match = best_match(LINEN, LINEN, prefix="weights")
    assert match.missing == tuple(LINEN)


def test_closest_view_is_reported() -> None:
    stored = under("model/params", "Dense_0/kernel", "Dense_1/kernel") | OPTIMIZER
    match = best_match(stored, LINEN)
    assert match.missing == ("params/Dense_0/bias",)
    assert match.extra == ("model/params/Dense_1/kernel",)
    assert match.root == "model"
