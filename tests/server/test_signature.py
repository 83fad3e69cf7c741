"""Specs of tensors, for programs and for people."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from fluoroscope_server.signature import BATCH, Signature, TensorSpec, describe

IMAGE = TensorSpec(name="image", dtype=np.dtype(np.float32), shape=(BATCH, 28, 28))
MASK = TensorSpec(name="mask", dtype=np.dtype(ml_dtypes.bfloat16), shape=(BATCH,))


def test_with_rows() -> None:
    assert IMAGE.with_rows(3) == (3, 28, 28)
    assert MASK.with_rows(0) == (0,)


def test_names_are_in_order() -> None:
    signature = Signature(inputs=(MASK, IMAGE), outputs=(IMAGE,))
    assert signature.input_names == ("mask", "image")
    assert signature.output_names == ("image",)


def test_how_much_one_example_gives() -> None:
    assert Signature(inputs=(), outputs=(MASK, IMAGE)).output_row_bytes == {"mask": 2, "image": 28 * 28 * 4}


def test_for_people() -> None:
    assert str(IMAGE) == "image: float32[batch, 28, 28]"
    assert str(MASK) == "mask: bfloat16[batch]"


@pytest.mark.parametrize(("shape", "text"), [((), "int8[]"), ((3,), "int8[3]"), ((2, BATCH), "int8[2, batch]")])
def test_describe(shape: tuple[int, ...], text: str) -> None:
    assert describe(np.dtype(np.int8), shape) == text
