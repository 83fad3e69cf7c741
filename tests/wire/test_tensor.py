from __future__ import annotations

import sys
from math import prod
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluoroscope.v1.tensor_pb2 import DataType, Tensor
from fluoroscope.wire import WireError, byte_size, decode_tensor, encode_tensor, tensor_bytes
from fluoroscope.wire.dtype import DTYPES, GREATEST_BYTE

if TYPE_CHECKING:
    from collections.abc import Callable

SHAPES = st.lists(st.integers(0, 5), max_size=4).map(tuple)


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    """Any bits, in any dtype of the contract and any shape: NaN payloads and subnormals included."""
    dtype = draw(st.sampled_from(list(DTYPES.values())))
    shape = draw(SHAPES)
    size = prod(shape) * dtype.itemsize
    bits = np.frombuffer(draw(st.binary(min_size=size, max_size=size)), np.uint8)
    array: np.ndarray = (bits & np.uint8(GREATEST_BYTE.get(dtype, 0xFF))).view(dtype)
    return array.reshape(shape)


def swapped(array: np.ndarray) -> np.ndarray:
    """The same values in the other byte order, for the types that have one."""
    other = array.dtype.newbyteorder()
    return array.astype(other) if other.kind in "iufc" else array


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "C": lambda array: array,
    "Fortran": lambda array: array.copy(order="F"),
    "transposed": lambda array: array.T.copy().T,
    "strided": lambda array: np.repeat(array, 2, axis=-1)[..., ::2] if array.ndim else array,
    "reversed": lambda array: np.flip(np.flip(array).copy()),
    "swapped": swapped,
}


@given(array=arrays(), layout=st.sampled_from(sorted(LAYOUTS)))
def test_what_is_decoded_is_what_was_encoded_bit_for_bit(array: np.ndarray, layout: str) -> None:
    message = Tensor.FromString(encode_tensor(LAYOUTS[layout](array)).SerializeToString())
    back = decode_tensor(message)

    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert back.tobytes() == array.tobytes()
    assert message.data == tensor_bytes(LAYOUTS[layout](array)).tobytes()


@given(array=arrays())
def test_the_bytes_of_a_row_major_array_are_a_view(array: np.ndarray) -> None:
    view = tensor_bytes(array)

    assert (view.format, view.ndim, view.nbytes) == ("B", 1, byte_size(array.dtype, array.shape))
    assert not array.size or np.shares_memory(np.asarray(view), array)


def test_decoding_copies_nothing_and_cannot_be_written() -> None:
    message = encode_tensor(np.arange(6, dtype=np.float32).reshape(2, 3))
    back = decode_tensor(message)

    assert not back.flags.writeable
    assert not back.flags.owndata
    assert back.flags.c_contiguous


def test_the_wire_is_little_endian() -> None:
    assert encode_tensor(np.array([1], np.uint32)).data == b"\1\0\0\0"
    assert encode_tensor(np.array([1], ">u4")).data == b"\1\0\0\0"
    assert decode_tensor(Tensor(data_type=DataType.DATA_TYPE_UINT32, data=b"\1\0\0\0")) == 1


def test_foreign_bytes_in_small_types_are_sent_as_the_values_that_they_stand_for() -> None:
    truths = np.array([0, 1, 2, 255], np.uint8).view(np.bool_)
    fours = np.array([0xFF, 0x0F, 0x10, 0x01], np.uint8).view(ml_dtypes.int4)

    assert encode_tensor(truths).data == b"\0\1\1\1"
    assert encode_tensor(fours).data == b"\x0f\x0f\x00\x01"
    assert (decode_tensor(encode_tensor(fours)) == fours).all()


@pytest.mark.parametrize("dtype", sorted(GREATEST_BYTE, key=str))
def test_bytes_that_stand_for_no_element_are_refused(dtype: np.dtype) -> None:
    greatest = GREATEST_BYTE[dtype]
    message = encode_tensor(np.zeros((2, 3), dtype))
    message.data = bytes([0, greatest, 0, greatest + 1, 0, 255])

    with pytest.raises(WireError, match=rf"byte 3 is 0x{greatest + 1:02x}, which is no {dtype}"):
        decode_tensor(message)


def test_an_unset_type_is_refused() -> None:
    with pytest.raises(WireError, match=r"data_type is not set"):
        decode_tensor(Tensor(shape=[1], data=b"\0\0\0\0"))


@pytest.mark.parametrize("data", [b"", b"\0" * 23, b"\0" * 25])
def test_another_number_of_bytes_is_refused(data: bytes) -> None:
    message = Tensor(data_type=DataType.DATA_TYPE_FLOAT32, shape=[2, 3], data=data)

    with pytest.raises(WireError, match=rf"data has {len(data)} bytes; float32\[2, 3\] .* expected 24"):
        decode_tensor(message)


@pytest.mark.parametrize("shape", [[-1], [2, -3], [-2, -3], [0, -1]])
def test_a_negative_size_is_refused(shape: list[int]) -> None:
    message = Tensor(data_type=DataType.DATA_TYPE_INT8, shape=shape, data=b"\0" * 6)

    with pytest.raises(WireError, match=r"no size may be negative"):
        decode_tensor(message)


@pytest.mark.parametrize(
    "shape",
    [
        [2**62, 4],
        [2**32, 2**32],
        [2**63 - 1] * 40,
        [2**63 - 1] * 64,
        [2**63 - 1] * 300,
        [2**63 - 1] * 10_000,
        [0, 2**62, 2**62],
        [0] * 65,
        [1] * 10_000,
    ],
    ids=lambda shape: f"{len(shape)} of {max(shape)}",
)
def test_a_shape_that_no_array_can_have_is_refused(shape: list[int]) -> None:
    message = Tensor(data_type=DataType.DATA_TYPE_FLOAT32, shape=shape)

    with pytest.raises(WireError, match=r"no array can have the shape") as refused:
        decode_tensor(message)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize("shape", [[0], [3, 0], [0, 2**63 - 1], [2**31, 0, 2**31], [0] * 64])
def test_a_size_of_zero_makes_no_elements_whatever_the_others_are(shape: list[int]) -> None:
    back = decode_tensor(Tensor(data_type=DataType.DATA_TYPE_INT8, shape=shape))

    assert (back.shape, back.size) == (tuple(shape), 0)


def test_objects_are_refused() -> None:
    with pytest.raises(WireError, match=r"dtype object cannot be sent"):
        encode_tensor(np.array([object()]))


def test_this_machine_is_one_of_those_that_the_tests_speak_for() -> None:
    assert sys.byteorder == "little"
