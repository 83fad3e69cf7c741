"""Arrays as messages: the `Tensor` of the contract, and the bytes inside it."""

from __future__ import annotations

import numpy as np

from fluoroscope.v1.tensor_pb2 import Tensor
from fluoroscope.wire.dtype import DTYPES, GREATEST_BYTE, dtype_from_wire, dtype_to_wire
from fluoroscope.wire.errors import WireError
from fluoroscope.wire.shape import byte_size, read_shape, show_shape


def encode_tensor(array: np.ndarray) -> Tensor:
    """Returns the message for an array of any shape, memory order and byte order.

    Raises:
        WireError: The contract has no such dtype.
    """
    tensor = Tensor()
    fill_tensor(tensor, array)
    return tensor


def fill_tensor(tensor: Tensor, array: np.ndarray) -> None:
    """Puts an array into an empty message, such as a new entry of a map: `request.inputs["image"]`.

    A message that is filled where it lies is not copied to get there.

    Raises:
        WireError: The contract has no such dtype.
    """
    dtype = array.dtype
    number = dtype_to_wire(dtype)
    tensor.data_type = number
    tensor.shape.extend(array.shape)
    if dtype in GREATEST_BYTE or dtype != DTYPES[number]:
        tensor.data = tensor_bytes(array).tobytes()
    else:
        tensor.data = array.tobytes()


def decode_tensor(tensor: Tensor) -> np.ndarray:
    """Returns the array of a message: a read-only view over its bytes, in row-major order.

    Raises:
        WireError: The type is unset or unknown, the shape is not one that an array can have, the
            bytes are not as many as type and shape say, or some byte stands for no element.
    """
    dtype = dtype_from_wire(tensor.data_type)
    shape = read_shape(tensor.shape)
    data = tensor.data
    size = byte_size(dtype, shape)
    if len(data) != size:
        raise WireError(
            f"data has {len(data)} bytes; {dtype}{show_shape(shape)} has {size // dtype.itemsize} elements of "
            f"{dtype.itemsize} bytes, expected {size}"
        )
    array: np.ndarray = np.ndarray(shape, dtype, data)
    if dtype in GREATEST_BYTE:
        check_bytes(array)
    return array


def tensor_bytes(array: np.ndarray) -> memoryview:
    """Returns the bytes of an array as the wire has them: row-major, little-endian, no padding.

    They are a view, and nothing is copied, where the array is already so.

    Raises:
        WireError: The contract has no such dtype.
    """
    dtype = DTYPES[dtype_to_wire(array.dtype)]
    if array.dtype != dtype:
        array = array.astype(dtype)
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    greatest = GREATEST_BYTE.get(dtype)
    if greatest is not None and flat.size and flat.max() > greatest:
        # The array was made by viewing foreign bytes: say the same values in the contract's bytes.
        flat = (flat != 0).view(np.uint8) if dtype == np.bool_ else flat & np.uint8(greatest)
    return flat.data


def check_bytes(array: np.ndarray) -> None:
    """Raises `WireError` if a byte of a row-major array stands for no element of its dtype."""
    greatest = GREATEST_BYTE.get(array.dtype)
    if greatest is None or not array.size:
        return
    flat = array.reshape(-1).view(np.uint8)
    if flat.max() > greatest:
        place = int(np.argmax(flat > greatest))
        raise WireError(
            f"byte {place} is 0x{int(flat[place]):02x}, which is no {array.dtype}: expected 0x00 to 0x{greatest:02x}"
        )
