"""The types of elements, by the names that the protocol gives them."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np

from fluoroscope.wire import DTYPES
from fluoroscope_server.rpc.open_inference.inference import open_inference_pb2 as messages


@dataclass(frozen=True, slots=True, kw_only=True)
class Datatype:
    """One type of elements."""

    name: str
    """What the protocol calls it: "FP32"; its own name in capitals if the protocol does not know it."""

    dtype: np.dtype
    """The type itself."""

    contents: str | None = None
    """The field of InferTensorContents that holds such elements; None if they come as raw bytes only."""

    config: messages.DataType.ValueType = messages.TYPE_INVALID
    """What a model's configuration calls it."""


_KNOWN = (
    Datatype(name="BOOL", dtype=np.dtype(np.bool_), contents="bool_contents", config=messages.TYPE_BOOL),
    Datatype(name="INT8", dtype=np.dtype(np.int8), contents="int_contents", config=messages.TYPE_INT8),
    Datatype(name="INT16", dtype=np.dtype(np.int16), contents="int_contents", config=messages.TYPE_INT16),
    Datatype(name="INT32", dtype=np.dtype(np.int32), contents="int_contents", config=messages.TYPE_INT32),
    Datatype(name="INT64", dtype=np.dtype(np.int64), contents="int64_contents", config=messages.TYPE_INT64),
    Datatype(name="UINT8", dtype=np.dtype(np.uint8), contents="uint_contents", config=messages.TYPE_UINT8),
    Datatype(name="UINT16", dtype=np.dtype(np.uint16), contents="uint_contents", config=messages.TYPE_UINT16),
    Datatype(name="UINT32", dtype=np.dtype(np.uint32), contents="uint_contents", config=messages.TYPE_UINT32),
    Datatype(name="UINT64", dtype=np.dtype(np.uint64), contents="uint64_contents", config=messages.TYPE_UINT64),
    Datatype(name="FP16", dtype=np.dtype(np.float16), config=messages.TYPE_FP16),
    Datatype(name="BF16", dtype=np.dtype(ml_dtypes.bfloat16), config=messages.TYPE_BF16),
    Datatype(name="FP32", dtype=np.dtype(np.float32), contents="fp32_contents", config=messages.TYPE_FP32),
    Datatype(name="FP64", dtype=np.dtype(np.float64), contents="fp64_contents", config=messages.TYPE_FP64),
)

BY_DTYPE: dict[np.dtype, Datatype] = {
    **{dtype: Datatype(name=dtype.name.upper(), dtype=dtype) for dtype in DTYPES.values()},
    **{datatype.dtype: datatype for datatype in _KNOWN},
}
"""Every type that a network can have."""

BY_NAME: dict[str, Datatype] = {datatype.name: datatype for datatype in BY_DTYPE.values()}
"""Every type, by its name."""
