from __future__ import annotations

import math

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
        ([2**64 - 1], np.uint64),
        ([-(2**63)], np.int64),
        ([3.4028235e38, -3.4028235e38], np.float32),  # as NumPy prints the greatest
        ([447.9, -448], ml_dtypes.float8_e4m3fn),
        ([6, -6], ml_dtypes.float4_e2m1fn),
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
        ([0, 256], np.uint8, r"input 'x' holds 256, which uint8 cannot hold"),
        ([-1], np.uint8, r"input 'x' holds -1, which uint8 cannot hold"),
        ([2**31], np.int32, r"which int32 cannot hold"),
        ([8], ml_dtypes.int4, r"input 'x' holds 8, which int4 cannot hold"),
        ([1, 0], np.bool_, r"input 'x' holds int64 values, which bool cannot hold"),
        ([1j], np.float32, r"holds complex128 values"),
        ([[1], [2, 3]], np.float32, r"input 'x' is no array"),
        ([[1, "a"]], np.float32, r"input 'x' holds 'a', which is no number: give numbers that float32 can hold"),
        ([b"a"], np.int32, r"input 'x' holds b'a', which is no number"),
        ([[1.5, None]], np.float32, r"input 'x' holds None, which is no number: give numbers that float32 can hold"),
        ([{}], np.float32, r"input 'x' holds {}, which is no number"),
        ([2**70], np.int64, r"input 'x' holds a whole number of more than 64 bits: give numbers that int64 can hold"),
        ([2**63], np.int64, r"input 'x' holds 9223372036854775808, which int64 cannot hold"),
        ([-1], np.uint64, r"input 'x' holds -1, which uint64 cannot hold"),
        ([[0, 1e300]], np.float32, r"input 'x' holds 1e\+300, which float32 cannot hold"),
        (-1e39, np.float32, r"input 'x' holds -1e\+39, which float32 cannot hold"),
        ([2**63], np.float16, r"input 'x' holds 9223372036854775808, which float16 cannot hold"),
        ([1e300j], np.complex64, r"input 'x' holds 1e\+300j, which complex64 cannot hold"),
        ([1e6], ml_dtypes.float8_e4m3fn, r"input 'x' holds 1000000.0, which float8_e4m3fn cannot hold"),
        ([1e6], ml_dtypes.float4_e2m1fn, r"input 'x' holds 1000000.0, which float4_e2m1fn cannot hold"),
        ([math.nan], ml_dtypes.float4_e2m1fn, r"input 'x' holds nan, which float4_e2m1fn cannot hold"),
        ([-1.0], ml_dtypes.float8_e8m0fnu, r"input 'x' holds -1.0, which float8_e8m0fnu cannot hold"),
    ],
)
def test_numbers_are_never_changed_silently(value: list[object], dtype: type, text: str) -> None:
    with pytest.raises(InvalidRequestError, match=text) as caught:
        as_dtype(value, np.dtype(dtype), name="x")  # type: ignore[arg-type]  # not all of them are numbers
    assert caught.value.field == "inputs[x]"


def test_infinities_and_nan_are_what_they_are() -> None:
    ends = [math.inf, -math.inf, math.nan]
    for dtype in (np.float16, np.float32, ml_dtypes.bfloat16, ml_dtypes.float8_e5m2):
        np.testing.assert_array_equal(as_dtype(ends, np.dtype(dtype), name="x").astype(np.float64), ends)


def test_inputs_must_be_a_mapping() -> None:
    with pytest.raises(InvalidRequestError, match=r"inputs are a list; expected a mapping"):
        next(predict("digits", [1, 2]))  # type: ignore[arg-type]  # the mistake


def test_an_array_that_cannot_be_sent_is_named() -> None:
    with pytest.raises(InvalidRequestError, match=r"input 'x' cannot be sent: arrays of dtype <U1"):
        next(predict("digits", {"x": np.array(["a"])}))


def test_what_a_mask_hides_is_not_sent() -> None:
    masked = np.ma.masked_array([1.0, 1e9], mask=[False, True])
    with pytest.raises(InvalidRequestError, match=r"input 'x' is a masked array, whose mask cannot be sent: fill it"):
        next(predict("digits", {"x": masked}))


def test_other_array_types_are_taken_as_they_are() -> None:
    class Foreign:
        def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
            return np.arange(3, dtype=np.int16)

    exchange = next(predict("digits", {"x": Foreign(), "y": np.float64(0.5)}))
    inputs = PredictRequest.FromString(exchange.request).inputs

    assert (exchange.method, list(inputs["x"].shape)) == ("/fluoroscope.v1.InferenceService/Predict", [3])
    assert (inputs["x"].data, len(inputs["y"].data)) == (b"\0\0\1\0\2\0", 8)
