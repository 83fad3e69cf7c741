"""What goes over the wire: arrays as messages, and tensors as streams of chunks.

Both ends import it. It needs NumPy and protobuf, and knows neither gRPC nor JAX.
"""

from fluoroscope.wire.arrived import Arrived
from fluoroscope.wire.checksum import Checksum
from fluoroscope.wire.dtype import DTYPES, dtype_from_wire, dtype_to_wire, is_sendable
from fluoroscope.wire.errors import CorruptError, IncompleteError, WireError
from fluoroscope.wire.frame import chunk_frame
from fluoroscope.wire.joiner import StreamJoiner
from fluoroscope.wire.result import StreamResult
from fluoroscope.wire.shape import MOST_AXES, byte_size, read_shape, show_shape
from fluoroscope.wire.splitter import StreamSplitter
from fluoroscope.wire.tensor import decode_tensor, encode_tensor, fill_tensor, tensor_bytes

__all__ = [
    "DTYPES",
    "MOST_AXES",
    "Arrived",
    "Checksum",
    "CorruptError",
    "IncompleteError",
    "StreamJoiner",
    "StreamResult",
    "StreamSplitter",
    "WireError",
    "byte_size",
    "chunk_frame",
    "decode_tensor",
    "dtype_from_wire",
    "dtype_to_wire",
    "encode_tensor",
    "fill_tensor",
    "is_sendable",
    "read_shape",
    "show_shape",
    "tensor_bytes",
]
