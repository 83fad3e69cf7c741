from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from features import BEGIN_SIZE, END_SIZE, PADDING, tokens_of_file
from network import build

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt
    from magika import Magika

    from weights import PackagedModel

    from .conftest import Exact, Onnxruntime

    Tokens = npt.NDArray[np.int32]
    Probabilities = npt.NDArray[np.float32]

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def tokens(files: list[Path]) -> Tokens:
    return np.stack([tokens_of_file(path) for path in files])


@pytest.fixture(scope="module")
def probabilities(tokens: Tokens, variables: dict[str, Any]) -> Probabilities:
    return np.asarray(jax.jit(build({}).apply)(variables, tokens))


def test_real_files_get_the_probabilities_that_the_weights_mean(
    tokens: Tokens, probabilities: Probabilities, exact: Exact
) -> None:
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, exact(tokens), rtol=0, atol=TOLERANCE)


def test_real_files_get_the_probabilities_that_onnxruntime_computes(
    files: list[Path], tokens: Tokens, probabilities: Probabilities, reference: Onnxruntime
) -> None:
    together = reference(tokens)
    alone = np.concatenate([reference(row[None]) for row in tokens])
    # onnxruntime's float32 LayerNorm is ill-conditioned where a file hardly varies: there its own two answers,
    # alone and in a batch, differ by up to 3e-4, and no third can equal both. Those files are held to less.
    sure = np.abs(together - alone).max(axis=1) < TOLERANCE / 5
    assert sure.sum() >= len(files) // 2
    np.testing.assert_allclose(probabilities[sure], together[sure], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(probabilities, together, rtol=0, atol=1e-3)


def test_real_files_get_the_label_that_magika_gives(
    files: list[Path], probabilities: Probabilities, packaged: PackagedModel, magika: Magika
) -> None:
    expected = [magika.identify_path(path).prediction for path in files]
    assert [packaged.labels[best] for best in probabilities.argmax(axis=1)] == [str(each.dl.label) for each in expected]
    np.testing.assert_allclose(probabilities.max(axis=1), [each.score for each in expected], rtol=0, atol=1e-3)


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_the_size_of_the_batch_changes_no_answer(
    tokens: Tokens, probabilities: Probabilities, variables: dict[str, Any], rows: int
) -> None:
    apply = jax.jit(build({}).apply)
    found = np.concatenate([apply(variables, tokens[start : start + rows]) for start in range(0, len(tokens), rows)])
    np.testing.assert_allclose(found, probabilities, rtol=0, atol=TOLERANCE)


def test_the_files_are_of_many_types(files: list[Path], probabilities: Probabilities) -> None:
    # Else equal answers would say little.
    assert len(files) >= 20
    assert len(set(probabilities.argmax(axis=1).tolist())) >= 15


def test_any_tokens_get_the_probabilities_that_onnxruntime_computes(
    variables: dict[str, Any], reference: Onnxruntime
) -> None:
    tokens = np.random.default_rng(0).integers(0, PADDING + 1, (8, BEGIN_SIZE + END_SIZE), np.int32)
    found = jax.jit(build({}).apply)(variables, tokens)
    np.testing.assert_allclose(found, reference(tokens), rtol=0, atol=TOLERANCE)


def test_weights_fit_the_network_leaf_for_leaf(variables: dict[str, Any]) -> None:
    shapes = jax.eval_shape(build({}).init, jax.random.key(0), jnp.zeros((1, 2048), jnp.int32))
    found = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), variables)
    assert found == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), shapes)


def test_a_token_above_the_vocabulary_gives_nan_and_spares_its_neighbours(variables: dict[str, Any]) -> None:
    tokens = np.full((2, BEGIN_SIZE + END_SIZE), PADDING, np.int32)
    tokens[0, 100] = PADDING + 1
    found = np.asarray(build({}).apply(variables, tokens))
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1]).all()


def test_build_refuses_a_key_that_it_does_not_know() -> None:
    with pytest.raises(ValueError, match=r"unknown keys \['layers'\]; known are \['classes', .*'vocabulary'\]"):
        build({"layers": 3})
