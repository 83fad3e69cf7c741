from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from fluoroscope.v1.tensor_pb2 import DataType
from fluoroscope.wire import WireError, dtype_from_wire, dtype_to_wire, is_sendable
from fluoroscope.wire.dtype import DTYPES, GREATEST_BYTE


def test_every_data_type_of_the_contract_has_a_dtype() -> None:
    assert set(DTYPES) == set(DataType.values()) - {DataType.DATA_TYPE_UNSPECIFIED}


@pytest.mark.parametrize("number", DTYPES)
def test_the_name_of_the_dtype_is_the_name_in_the_contract(number: int) -> None:
    name = DataType.Name(DataType.ValueType(number)).removeprefix("DATA_TYPE_").lower()

    assert dtype_from_wire(number).name == name


@pytest.mark.parametrize("number", DTYPES)
def test_both_ways(number: int) -> None:
    assert dtype_to_wire(dtype_from_wire(number)) == number


@pytest.mark.parametrize("number", DTYPES)
def test_what_the_contract_has_can_be_sent_in_any_byte_order(number: int) -> None:
    dtype = dtype_from_wire(number)

    assert is_sendable(dtype)
    assert is_sendable(dtype.newbyteorder(">"))


@pytest.mark.parametrize("code", ["i2", "u4", "i8", "f2", "f4", "f8", "c8", "c16"])
def test_byte_order_does_not_matter(code: str) -> None:
    assert dtype_to_wire(np.dtype(f">{code}")) == dtype_to_wire(np.dtype(f"<{code}"))


def test_small_types_are_those_that_do_not_use_all_bits() -> None:
    bits = {dtype: greatest.bit_length() for dtype, greatest in GREATEST_BYTE.items()}

    assert bits == {
        np.dtype(np.bool_): 1,
        np.dtype(ml_dtypes.int2): 2,
        np.dtype(ml_dtypes.uint2): 2,
        np.dtype(ml_dtypes.int4): 4,
        np.dtype(ml_dtypes.uint4): 4,
        np.dtype(ml_dtypes.float4_e2m1fn): 4,
    }


def test_an_unset_type_says_so_and_lists_the_known() -> None:
    with pytest.raises(WireError, match=r"data_type is not set; .*DATA_TYPE_BFLOAT16 = 23"):
        dtype_from_wire(0)


@pytest.mark.parametrize("number", [-1, 29, 2**31 - 1])
def test_an_unknown_type_is_named(number: int) -> None:
    with pytest.raises(WireError, match=rf"data_type is {number}, which is unknown"):
        dtype_from_wire(number)


@pytest.mark.parametrize("dtype", ["U3", "S3", "O", "M8[s]", "V2", [("a", "f4")]])
def test_dtypes_that_the_contract_lacks_are_refused(dtype: str) -> None:
    with pytest.raises(WireError, match=r"cannot be sent; the types that can are bool, int2"):
        dtype_to_wire(np.dtype(dtype))
    assert not is_sendable(np.dtype(dtype))
