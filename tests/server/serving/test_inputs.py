"""Inputs: every refusal names the field, what came and what is expected."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluoroscope_server.errors import InvalidRequestError
from fluoroscope_server.serving.inputs import check_inputs, pad_inputs
from fluoroscope_server.signature import BATCH, Signature, TensorSpec


def spec(name: str, shape: tuple[int, ...], dtype: Any = np.float32) -> TensorSpec:
    return TensorSpec(name=name, dtype=np.dtype(dtype), shape=(BATCH, *shape))


SIGNATURE = Signature(inputs=(spec("image", (4, 2)), spec("flag", (), np.bool_)), outputs=())


def inputs(rows: int = 3, **changes: Any) -> dict[str, Any]:
    return {"image": np.ones((rows, 4, 2), np.float32), "flag": np.ones(rows, np.bool_), **changes}


@pytest.mark.parametrize("rows", [1, 3])
def test_rows(rows: int) -> None:
    assert check_inputs(inputs(rows), SIGNATURE) == rows


@pytest.mark.parametrize(
    ("changes", "field", "reason", "message"),
    [
        ({"imge": np.ones(1)}, "inputs[imge]", "INPUT_NOT_FOUND", "there is no input 'imge'; nearest: 'image'"),
        ({"": np.ones(1)}, "inputs[]", "INPUT_NOT_FOUND", "there is no input ''"),
        (
            {"image": None},
            "inputs[image]",
            "INPUT_MISSING",
            r"input 'image' is missing; expected image: float32\[batch, 4, 2\]",
        ),
        (
            {"image": np.ones((3, 4, 2))},
            "inputs[image]",
            "WRONG_DTYPE",
            r"'image' came as float64\[3, 4, 2\], expected float32\[batch, 4, 2\]: convert it to float32 first",
        ),
        (
            {"image": np.ones((3, 4, 2), ml_dtypes.bfloat16)},
            "inputs[image]",
            "WRONG_DTYPE",
            r"came as bfloat16\[3, 4, 2\], expected float32",
        ),
        (
            {"image": np.ones((4, 2), np.float32)},
            "inputs[image]",
            "WRONG_SHAPE",
            r"came as float32\[4, 2\], .*: the batch axis is missing: send a single example with shape \(1, ...\)",
        ),
        (
            {"image": np.ones((0, 4, 2), np.float32)},
            "inputs[image]",
            "WRONG_SHAPE",
            r"came as float32\[0, 4, 2\], .*: a batch holds at least one row",
        ),
        (
            {"image": np.ones((), np.float32)},
            "inputs[image]",
            "WRONG_SHAPE",
            r"came as float32\[\], .*: the first axis is the batch, and every other size must agree",
        ),
        (
            {"image": np.ones((3, 4, 2, 1), np.float32)},
            "inputs[image]",
            "WRONG_SHAPE",
            r"came as float32\[3, 4, 2, 1\]",
        ),
        ({"image": np.ones((3, 2, 4), np.float32)}, "inputs[image]", "WRONG_SHAPE", r"came as float32\[3, 2, 4\]"),
        ({"image": np.ones((3, 4, 0), np.float32)}, "inputs[image]", "WRONG_SHAPE", r"came as float32\[3, 4, 0\]"),
        ({"flag": np.ones((), np.bool_)}, "inputs[flag]", "WRONG_SHAPE", r"came as bool\[\], .*: the batch axis is"),
        (
            {"flag": np.ones(2, np.bool_)},
            "inputs[flag]",
            "INVALID_REQUEST",
            "input 'flag' has 2 rows, and 'image' has 3: all inputs must have the same number of rows",
        ),
    ],
)
def test_refusals(changes: dict[str, Any], field: str, reason: str, message: str) -> None:
    given_inputs = {name: array for name, array in inputs(**changes).items() if array is not None}
    with pytest.raises(InvalidRequestError, match=message) as caught:
        check_inputs(given_inputs, SIGNATURE)
    assert (caught.value.field, caught.value.reason) == (field, reason)


@given(st.integers(1, 6), st.integers(0, 6))
def test_padding_is_zeros_behind_the_rows(rows: int, extra: int) -> None:
    given_inputs = inputs(rows)
    image, flag = pad_inputs([dict(reversed(given_inputs.items()))], SIGNATURE, rows + extra)
    assert (image.shape, image.dtype.name) == ((rows + extra, 4, 2), "float32")
    assert (flag.shape, flag.dtype.name) == ((rows + extra,), "bool")
    np.testing.assert_array_equal(image[:rows], given_inputs["image"])
    assert not image[rows:].any()
    assert not flag[rows:].any()


def test_a_full_bucket_is_not_copied() -> None:
    given_inputs = inputs(3)
    padded = pad_inputs([given_inputs], SIGNATURE, 3)
    assert padded[0] is given_inputs["image"]


def test_requests_are_joined_in_their_order() -> None:
    generator = np.random.default_rng(0)
    requests = [
        inputs(image=generator.normal(size=(rows, 4, 2)).astype(np.float32), flag=generator.random(rows) < 0.5)
        for rows in (1, 3, 2)
    ]
    image, flag = pad_inputs(requests, SIGNATURE, 8)
    for padded, name in ((image, "image"), (flag, "flag")):
        np.testing.assert_array_equal(padded[:6], np.concatenate([each[name] for each in requests]))
        assert not padded[6:].any()


def test_types_that_numpy_does_not_know_are_padded_too() -> None:
    signature = Signature(inputs=(spec("x", (2,), ml_dtypes.int4),), outputs=())
    (padded,) = pad_inputs([{"x": np.ones((1, 2), ml_dtypes.int4)}], signature, 2)
    np.testing.assert_array_equal(padded.astype(np.int32), [[1, 1], [0, 0]])
