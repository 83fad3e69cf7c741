"""The types of elements: one table between the contract's numbers and NumPy's dtypes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import ml_dtypes
import numpy as np

from fluoroscope.v1.tensor_pb2 import DataType
from fluoroscope.wire.errors import WireError

if TYPE_CHECKING:
    from collections.abc import Mapping
DTYPES: Final[Mapping[int, np.dtype]] = {
    DataType.DATA_TYPE_BOOL: np.dtype(np.bool_),
    DataType.DATA_TYPE_INT2: np.dtype(ml_dtypes.int2),
    DataType.DATA_TYPE_INT4: np.dtype(ml_dtypes.int4),
    DataType.DATA_TYPE_INT8: np.dtype("i1"),
    DataType.DATA_TYPE_INT16: np.dtype("<i2"),
    DataType.DATA_TYPE_INT32: np.dtype("<i4"),
    DataType.DATA_TYPE_INT64: np.dtype("<i8"),
    DataType.DATA_TYPE_UINT2: np.dtype(ml_dtypes.uint2),
    DataType.DATA_TYPE_UINT4: np.dtype(ml_dtypes.uint4),
    DataType.DATA_TYPE_UINT8: np.dtype("u1"),
    DataType.DATA_TYPE_UINT16: np.dtype("<u2"),
    DataType.DATA_TYPE_UINT32: np.dtype("<u4"),
    DataType.DATA_TYPE_UINT64: np.dtype("<u8"),
    DataType.DATA_TYPE_FLOAT4_E2M1FN: np.dtype(ml_dtypes.float4_e2m1fn),
    DataType.DATA_TYPE_FLOAT8_E3M4: np.dtype(ml_dtypes.float8_e3m4),
    DataType.DATA_TYPE_FLOAT8_E4M3: np.dtype(ml_dtypes.float8_e4m3),
    DataType.DATA_TYPE_FLOAT8_E4M3B11FNUZ: np.dtype(ml_dtypes.float8_e4m3b11fnuz),
    DataType.DATA_TYPE_FLOAT8_E4M3FN: np.dtype(ml_dtypes.float8_e4m3fn),
    DataType.DATA_TYPE_FLOAT8_E4M3FNUZ: np.dtype(ml_dtypes.float8_e4m3fnuz),
    DataType.DATA_TYPE_FLOAT8_E5M2: np.dtype(ml_dtypes.float8_e5m2),
    DataType.DATA_TYPE_FLOAT8_E5M2FNUZ: np.dtype(ml_dtypes.float8_e5m2fnuz),
    DataType.DATA_TYPE_FLOAT8_E8M0FNU: np.dtype(ml_dtypes.float8_e8m0fnu),
    DataType.DATA_TYPE_BFLOAT16: np.dtype(ml_dtypes.bfloat16),
    DataType.DATA_TYPE_FLOAT16: np.dtype("<f2"),
    DataType.DATA_TYPE_FLOAT32: np.dtype("<f4"),
    DataType.DATA_TYPE_FLOAT64: np.dtype("<f8"),
    DataType.DATA_TYPE_COMPLEX64: np.dtype("<c8"),
    DataType.DATA_TYPE_COMPLEX128: np.dtype("<c16"),
}
"""The dtype of each value of the enum that can carry data; multi-byte ones are little-endian."""

GREATEST_BYTE: Final[Mapping[np.dtype, int]] = {
    DTYPES[DataType.DATA_TYPE_BOOL]: 0x01,
    DTYPES[DataType.DATA_TYPE_INT2]: 0x03,
    DTYPES[DataType.DATA_TYPE_UINT2]: 0x03,
    DTYPES[DataType.DATA_TYPE_INT4]: 0x0F,
    DTYPES[DataType.DATA_TYPE_UINT4]: 0x0F,
    DTYPES[DataType.DATA_TYPE_FLOAT4_E2M1FN]: 0x0F,
}
"""The greatest byte that stands for an element, of those dtypes that do not use all bits of it."""

_NUMBERS: Final[Mapping[np.dtype, DataType.ValueType]] = {
    dtype: DataType.ValueType(number) for number, dtype in DTYPES.items()
}


def dtype_from_wire(number: int) -> np.dtype:
    """Returns the dtype for a number of the enum `DataType`.

    Raises:
        WireError: The number is unset, or not one that this version knows.
    """
    try:
        return DTYPES[number]
    except KeyError:
        came = "not set" if number == DataType.DATA_TYPE_UNSPECIFIED else f"{number}, which is unknown"
        known = ", ".join(f"{name} = {value}" for name, value in DataType.items() if value)
        raise WireError(f"data_type is {came}; expected one of {known}") from None


def is_sendable(dtype: np.dtype) -> bool:
    """Returns whether the contract has a dtype, whatever its byte order."""
    return dtype in _NUMBERS or dtype.newbyteorder("<") in _NUMBERS


def dtype_to_wire(dtype: np.dtype) -> DataType.ValueType:
    """Returns the number of the enum `DataType` for a dtype, whatever its byte order.

    Raises:
        WireError: The contract has no such type, as for strings, objects and records.
    """
    try:
        return _NUMBERS[dtype]
    except KeyError:
        number = _NUMBERS.get(dtype.newbyteorder("<"))
    if number is None:
        known = ", ".join(str(each) for each in DTYPES.values())
        raise WireError(f"arrays of dtype {dtype} cannot be sent; the types that can are {known}")
    return number
