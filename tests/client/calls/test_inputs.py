from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from fluoroscope import InvalidRequestError
from fluoroscope.calls import predict
from fluoroscope.calls.inputs import as_dtype
from fluoroscope.v1.inference_pb2 import PredictRequest


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (True, np.bool_),
        (3, np.int32),
        ([1, 2], np.int32),
        (0.5, np.float32),
        ([[1, 0.5]], np.float32),
        (1j, np.complex128),
    ],
)
def test_the_dtype_of_an_input_that_nobody_knows(value: object, dtype: type) -> None:
    assert as_dtype(value, None, name="x").dtype == dtype  # type: ignore[arg-type]  # any number


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        ([1, 2], np.float32),
        ([0.1, 2], ml_dtypes.bfloat16),
        ([True, False], np.bool_),
        ([1, 0], np.uint8),
        ([-8, 7], ml_dtypes.int4),
        ([], np.int32),
        ([1, 2.5], np.complex64),
        ([2**40], np.int64),
    ],
)
def test_numbers_take_a_dtype_that_can_hold_them(value: list[float], dtype: type) -> None:
    array = as_dtype(value, np.dtype(dtype), name="x")

    assert array.dtype == dtype
    assert np.allclose(array.astype(np.complex128), value, rtol=0.01)


@pytest.mark.parametrize(
    ("value", "dtype", "text"),
    [
        ([1.5, 2], np.int32, r"input 'x' holds float64 values, which int32 cannot hold: give int32"),
        ([256], np.uint8, r"input 'x' holds 256 to 256, which uint8 cannot hold"),
        ([-1], np.uint8, r"input 'x' holds -1 to -1, which uint8 cannot hold"),
        ([2**31], np.int32, r"which int32 cannot hold"),
        ([8], ml_dtypes.int4, r"input 'x' holds 8 to 8, which int4 cannot hold"),
        ([1, 0], np.bool_, r"input 'x' holds int64 values, which bool cannot hold"),
        ([1j], np.float32, r"holds complex128 values"),
        ([[1], [2, 3]], np.float32, r"input 'x' is no array"),
        (["a"], np.float32, r"input 'x' holds str\d* values"),
        ([{}], np.float32, r"input 'x' holds object values"),
        ([2**70], np.int64, r"cannot hold"),
    ],
)
def test_numbers_are_never_changed_silently(value: list[object], dtype: type, text: str) -> None:
    with pytest.raises(InvalidRequestError, match=text) as caught:
        as_dtype(value, np.dtype(dtype), name="x")  # type: ignore[arg-type]  # not all of them are numbers
    assert caught.value.field == "inputs['x']"


def test_inputs_must_be_a_mapping() -> None:
    with pytest.raises(InvalidRequestError, match=r"inputs are a list; expected a mapping"):
        next(predict("digits", [1, 2]))  # type: ignore[arg-type]  # the mistake


def test_an_array_that_cannot_be_sent_is_named() -> None:
    with pytest.raises(InvalidRequestError, match=r"input 'x' cannot be sent: arrays of dtype <U1"):
        next(predict("digits", {"x": np.array(["a"])}))


def test_other_array_types_are_taken_as_they_are() -> None:
    class Foreign:
        def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
            return np.arange(3, dtype=np.int16)

    exchange = next(predict("digits", {"x": Foreign(), "y": np.float64(0.5)}))
    inputs = PredictRequest.FromString(exchange.request).inputs

    assert (exchange.method, list(inputs["x"].shape)) == ("/fluoroscope.v1.InferenceService/Predict", [3])
    assert (inputs["x"].data, len(inputs["y"].data)) == (b"\0\0\1\0\2\0", 8)
