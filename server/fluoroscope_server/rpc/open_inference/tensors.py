"""Inputs and outputs, as the protocol carries them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fluoroscope.wire import WireError, byte_size, read_shape, show_shape, tensor_bytes
from fluoroscope.wire.tensor import check_bytes
from fluoroscope_server.engine import check_outputs
from fluoroscope_server.errors import InvalidRequestError, nearest, quoted
from fluoroscope_server.rpc.open_inference.datatype import BY_DTYPE, BY_NAME
from fluoroscope_server.rpc.open_inference.inference import open_inference_pb2 as messages
from fluoroscope_server.serving import check_input, check_input_names

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.message import Message

    from fluoroscope_server.rpc.open_inference.datatype import Datatype
    from fluoroscope_server.signature import Signature

    Input = messages.ModelInferRequest.InferInputTensor

CONTENTS = tuple(field.name for field in messages.InferTensorContents.DESCRIPTOR.fields)
"""The fields in which elements may come that are not raw."""

REFUSED = ("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset", "classification")
"""Parameters that would change what a request means, and that this server does not have."""


AT_ONCE = 1 << 16
"""How many elements that are not raw are converted before other threads may go on: a few milliseconds."""


def decode_inputs(request: messages.ModelInferRequest, signature: Signature) -> dict[str, np.ndarray]:
    """Returns the inputs of a request by name; raw ones are views over its bytes.

    Elements that are not raw are converted one by one, and only if they can be what the signature expects.

    Raises:
        InvalidRequestError: a name, type, shape or size cannot be right; the message says which, what came, and what
            is expected.
    """
    most = len(signature.inputs)
    names = [each.name for each in request.inputs[: most + 1]]
    check_names("inputs", names)
    if len(names) > most:  # all different, so that one is unknown
        check_input_names(names, signature)
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InvalidRequestError(
            f"raw_input_contents has {len(raw)} entries, expected one for each of the {len(request.inputs)} inputs",
            field="raw_input_contents",
        )
    return {
        each.name: _decode(each, raw[index] if raw else None, signature, field=f"inputs[{index}]")
        for index, each in enumerate(request.inputs)
    }


def requested_outputs(request: messages.ModelInferRequest, signature: Signature) -> list[str]:
    """Returns the names of the outputs that a request asks for; raises InvalidRequestError if one cannot be right."""
    most = len(signature.outputs)
    names = [each.name for each in request.outputs[: most + 1]]
    check_names("outputs", names)
    if len(names) > most:  # all different, so that one is unknown
        check_outputs(names, signature)
    for index, each in enumerate(request.outputs):
        _check_parameters(each, field=f"outputs[{index}]")
    return names


def add_output(response: messages.ModelInferResponse, name: str, array: np.ndarray) -> None:
    """Puts an output behind those that a response has."""
    response.outputs.add(name=name, datatype=BY_DTYPE[array.dtype].name, shape=array.shape)
    response.raw_output_contents.append(tensor_bytes(array).tobytes())


def check_names(field: str, names: Iterable[str]) -> None:
    """Raises InvalidRequestError if a name is empty, blank, has a null character, or comes twice."""
    seen = set()
    for index, name in enumerate(names):
        place = f"{field}[{index}].name"
        if not name.strip():
            raise InvalidRequestError(f"{place} is {quoted(name)}; expected a name", field=place)
        if "\0" in name:
            raise InvalidRequestError(f"{place} is {quoted(name)}; a name has no null character", field=place)
        if name in seen:
            raise InvalidRequestError(f"{field} has {quoted(name)} twice; expected each once", field=place)
        seen.add(name)


def _decode(tensor: Input, raw: bytes | None, signature: Signature, *, field: str) -> np.ndarray:
    _check_parameters(tensor, field=field)
    datatype = BY_NAME.get(tensor.datatype)
    if datatype is None:
        raise InvalidRequestError(
            f"input {quoted(tensor.name)} has the datatype {quoted(tensor.datatype)}; "
            f"nearest: {nearest(tensor.datatype, BY_NAME)}",
            field=f"{field}.datatype",
            reason="WRONG_DTYPE",
        )
    try:
        shape = read_shape(tensor.shape)
        size = byte_size(datatype.dtype, shape)
    except WireError as error:
        raise InvalidRequestError(f"input {quoted(tensor.name)}: {error}", field=f"{field}.shape") from error
    if raw is None:
        flat = _from_contents(tensor, datatype, size // datatype.dtype.itemsize, signature, field=field)
    elif tensor.HasField("contents"):
        raise InvalidRequestError(
            f"input {quoted(tensor.name)} has contents, and raw_input_contents is set too: send one of them",
            field=f"{field}.contents",
        )
    else:
        flat = _from_raw(tensor, raw, datatype, size, field=field)
    return flat.reshape(shape)


def _from_raw(tensor: Input, raw: bytes, datatype: Datatype, size: int, *, field: str) -> np.ndarray:
    if len(raw) != size:
        raise InvalidRequestError(
            f"input {quoted(tensor.name)} came with {len(raw):,} bytes; {datatype.name}{show_shape(tensor.shape)} has "
            f"{size // datatype.dtype.itemsize:,} elements, expected {size:,} bytes",
            field=field,
            reason="BROKEN_TENSOR",
        )
    flat = np.frombuffer(raw, datatype.dtype) if raw else np.empty(0, datatype.dtype)
    try:
        check_bytes(flat)
    except WireError as error:
        raise InvalidRequestError(
            f"input {quoted(tensor.name)}: {error}", field=field, reason="BROKEN_TENSOR"
        ) from error
    return flat


def _from_contents(tensor: Input, datatype: Datatype, count: int, signature: Signature, *, field: str) -> np.ndarray:
    place = f"{field}.contents"
    if datatype.contents is None:
        raise InvalidRequestError(
            f"input {quoted(tensor.name)} is {datatype.name}, which comes in raw_input_contents only", field=place
        )
    for name in CONTENTS:
        if name != datatype.contents and len(getattr(tensor.contents, name)):
            raise InvalidRequestError(
                f"input {quoted(tensor.name)} is {datatype.name} and has elements in {name}; "
                f"expected them in {datatype.contents}",
                field=place,
            )
    values = getattr(tensor.contents, datatype.contents)
    if len(values) != count:
        raise InvalidRequestError(
            f"input {quoted(tensor.name)} came with {len(values):,} elements; "
            f"the shape {show_shape(tensor.shape)} has {count:,}",
            field=place,
            reason="BROKEN_TENSOR",
        )
    check_input_names([tensor.name], signature)
    for spec in signature.inputs:
        if spec.name == tensor.name:
            check_input(datatype.dtype, tuple(tensor.shape), spec)
    flat = np.empty(count, datatype.dtype)
    try:
        for start in range(0, count, AT_ONCE):
            flat[start : start + AT_ONCE] = np.array(values[start : start + AT_ONCE], datatype.dtype)
    except OverflowError as error:
        raise InvalidRequestError(
            f"input {quoted(tensor.name)} has an element that is no {datatype.name}: {error}", field=place
        ) from error
    return flat


def _check_parameters(tensor: Message, *, field: str) -> None:
    for name in REFUSED:
        if name in tensor.parameters:  # type: ignore[attr-defined]  # inputs and outputs have them
            raise InvalidRequestError(
                f"{field} has the parameter {name!r}, which this server does not have: "
                "tensors travel in the messages, whole",
                field=f"{field}.parameters",
                reason="NOT_SUPPORTED",
            )
