"""Inputs of the Open Inference Protocol: what is right comes through bit by bit, what cannot be right is told."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluoroscope_server.errors import InvalidRequestError
from fluoroscope_server.rpc.open_inference.datatype import BY_DTYPE, BY_NAME
from fluoroscope_server.rpc.open_inference.inference import open_inference_pb2 as messages
from fluoroscope_server.rpc.open_inference.tensors import AT_ONCE, add_output, decode_inputs, requested_outputs
from fluoroscope_server.signature import BATCH, Signature, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable

Request = messages.ModelInferRequest


def request_of(**arrays: np.ndarray) -> Request:
    """A request with these arrays as raw inputs."""
    request = Request()
    for name, array in arrays.items():
        request.inputs.add(name=name, datatype=BY_DTYPE[array.dtype].name, shape=array.shape)
        request.raw_input_contents.append(array.tobytes())
    return request


def fitting(request: Request) -> Signature:
    """The signature of a network that takes what a request has."""
    return Signature(
        inputs=tuple(
            TensorSpec(
                name=each.name,
                dtype=BY_NAME[each.datatype if each.datatype in BY_NAME else "FP32"].dtype,
                shape=(BATCH, *each.shape[1:]),
            )
            for each in request.inputs
        ),
        outputs=(),
    )


OUTPUTS = Signature(inputs=(), outputs=(TensorSpec(name="logits", dtype=np.dtype(np.float32), shape=(BATCH, 3)),))


@pytest.mark.parametrize("datatype", BY_NAME.values(), ids=BY_NAME.keys())
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_raw_elements_of_every_type(datatype: Any, shape: tuple[int, ...]) -> None:
    array = np.arange(6).astype(datatype.dtype)[: int(np.prod(shape))].reshape(shape)
    found = decode_inputs(request_of(x=array), fitting(request_of(x=array)))["x"]
    assert (found.dtype, found.shape, found.tobytes()) == (array.dtype, array.shape, array.tobytes())
    response = messages.ModelInferResponse()
    add_output(response, "y", array)
    (output,) = response.outputs
    assert (output.name, output.datatype, tuple(output.shape)) == ("y", datatype.name, shape)
    assert response.raw_output_contents[0] == array.tobytes()


@pytest.mark.parametrize("name", [name for name, datatype in BY_NAME.items() if datatype.contents])
def test_typed_elements(name: str) -> None:
    datatype = BY_NAME[name]
    array = np.array([[0, 1, 1], [1, 0, 1]]).astype(datatype.dtype)
    request = Request()
    tensor = request.inputs.add(name="x", datatype=name, shape=array.shape)
    assert datatype.contents is not None
    getattr(tensor.contents, datatype.contents).extend(array.reshape(-1).tolist())
    np.testing.assert_array_equal(decode_inputs(request, fitting(request))["x"], array, strict=True)


def test_the_names_of_the_specification() -> None:
    assert BY_DTYPE[np.dtype(ml_dtypes.bfloat16)].name == "BF16"
    assert BY_DTYPE[np.dtype(np.float16)].name == "FP16"
    assert BY_DTYPE[np.dtype(np.bool_)].name == "BOOL"
    assert len(BY_NAME) == len(BY_DTYPE)


def change(edit: Callable[[Request], object]) -> Request:
    """A request of two inputs, x: FP32[2, 3] and y: INT32[2, 1], changed."""
    request = request_of(x=np.ones((2, 3), np.float32), y=np.ones((2, 1), np.int32))
    edit(request)
    return request


def set_shape(*shape: int) -> Callable[[Request], None]:
    def edit(request: Request) -> None:
        del request.inputs[0].shape[:]
        request.inputs[0].shape.extend(shape)

    return edit


def in_turn(*edits: Callable[[Request], object]) -> Callable[[Request], object]:
    def edit(request: Request) -> None:
        for each in edits:
            each(request)

    return edit


def typed(name: str, field: str, values: list[Any]) -> Callable[[Request], None]:
    def edit(request: Request) -> None:
        del request.raw_input_contents[:], request.inputs[1:]
        request.inputs[0].datatype = name
        getattr(request.inputs[0].contents, field).extend(values)

    return edit


WRONG: dict[str, tuple[Callable[[Request], object], str]] = {
    "fewer bytes than the shape": (lambda r: r.raw_input_contents.__setitem__(0, b"1234"), "4 bytes; .* expected 24"),
    "more bytes than the shape": (lambda r: r.raw_input_contents.__setitem__(0, b"1" * 25), "25 bytes"),
    "no bytes": (lambda r: r.raw_input_contents.__setitem__(0, b""), "0 bytes"),
    "a negative size": (set_shape(-1, 3), "negative"),
    "two negative sizes": (set_shape(-2, -3), "negative"),
    "sizes whose product wraps to the right one": (
        set_shape(1 << 32, 1 << 32, 6),
        "no array can have the shape",
    ),
    "a product that wraps to zero": (set_shape(1 << 62, 4), "no array can have the shape"),
    "a product that does not": (set_shape(1 << 40, 4), "4,398,046,511,104 elements, expected 17,592,186,044,416 bytes"),
    "the greatest sizes": (set_shape(*[2**63 - 1] * 3), "no array can have the shape"),
    "the greatest sizes, many": (set_shape(*[2**63 - 1] * 300), "no array can have the shape"),
    "the greatest sizes, ever so many": (set_shape(*[2**63 - 1] * 10_000), "no array can have the shape"),
    "zero times the greatest": (
        in_turn(set_shape(0, 2**63 - 1, 2**63 - 1), lambda r: r.raw_input_contents.__setitem__(0, b"")),
        "no array can have the shape",
    ),
    "too many axes": (set_shape(*[1] * 100, 6), "no array can have the shape"),
    "raw and typed together": (lambda r: r.inputs[0].contents.fp32_contents.append(1), "send one of them"),
    "raw for one of two": (lambda r: r.raw_input_contents.pop(), "1 entries, expected one for each of the 2"),
    "raw for three of two": (lambda r: r.raw_input_contents.append(b""), "3 entries"),
    "an empty name": (lambda r: setattr(r.inputs[0], "name", ""), "expected a name"),
    "a blank name": (lambda r: setattr(r.inputs[0], "name", " \t"), "expected a name"),
    "a null character": (lambda r: setattr(r.inputs[0], "name", "x\0"), "null character"),
    "a name twice": (lambda r: setattr(r.inputs[1], "name", "x"), "'x' twice"),
    "an unknown type": (lambda r: setattr(r.inputs[0], "datatype", "FP31"), "nearest: 'FP32'"),
    "no type": (lambda r: setattr(r.inputs[0], "datatype", ""), "the datatype ''"),
    "strings": (lambda r: setattr(r.inputs[0], "datatype", "BYTES"), "the datatype 'BYTES'"),
    "a byte that is no truth value": (
        in_turn(
            lambda r: setattr(r.inputs[0], "datatype", "BOOL"),
            set_shape(2),
            lambda r: r.raw_input_contents.__setitem__(0, b"\1\2"),
        ),
        "0x02",
    ),
    "typed elements in another field": (typed("FP32", "fp64_contents", [1.0] * 6), "expected them in fp32_contents"),
    "fewer typed elements": (typed("FP32", "fp32_contents", [1.0] * 5), "5 elements"),
    "typed elements of sizes without end": (
        in_turn(typed("FP32", "fp32_contents", [1.0] * 6), set_shape(*[2**63 - 1] * 300)),
        "no array can have the shape",
    ),
    "typed halves": (typed("FP16", "fp32_contents", [1.0] * 6), "raw_input_contents only"),
    "a typed element out of range": (typed("INT8", "int_contents", [300] * 6), "no INT8"),
    "a typed negative one": (typed("UINT8", "uint_contents", [256] * 6), "no UINT8"),
    "shared memory": (
        lambda r: setattr(r.inputs[0].parameters["shared_memory_region"], "string_param", "mine"),
        "'shared_memory_region'",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_right(what: str) -> None:
    edit, message = WRONG[what]
    request = change(edit)
    with pytest.raises(InvalidRequestError, match=message) as refused:
        decode_inputs(request, fitting(request))
    assert refused.value.field
    assert len(refused.value.message) < 500


@pytest.mark.parametrize("name", ["", "  ", "a\0b"])
def test_outputs_without_a_right_name(name: str) -> None:
    request = Request()
    request.outputs.add(name=name)
    with pytest.raises(InvalidRequestError, match=r"outputs\[0\]\.name"):
        requested_outputs(request, OUTPUTS)


def test_classification_is_refused() -> None:
    request = Request()
    request.outputs.add(name="logits").parameters["classification"].int64_param = 3
    with pytest.raises(InvalidRequestError, match="classification"):
        requested_outputs(request, OUTPUTS)


def test_what_does_not_fit_the_signature_is_not_converted() -> None:
    request = Request()
    tensor = request.inputs.add(name="x", datatype="INT8", shape=[6])
    tensor.contents.int_contents.extend([300] * 6)  # which is no INT8, as its conversion would say
    spec = TensorSpec(name="x", dtype=np.dtype(np.float32), shape=(BATCH, 3))
    with pytest.raises(InvalidRequestError, match=r"'x' came as int8\[6\], expected float32\[batch, 3\]") as refused:
        decode_inputs(request, Signature(inputs=(spec,), outputs=()))
    assert refused.value.reason == "WRONG_DTYPE"
    tensor.name = "z"
    with pytest.raises(InvalidRequestError, match="there is no input 'z'; nearest: 'x'"):
        decode_inputs(request, Signature(inputs=(spec,), outputs=()))


def test_many_elements_are_converted_in_parts() -> None:
    array = np.arange(2 * AT_ONCE + 1, dtype=np.int32)
    request = Request()
    request.inputs.add(name="x", datatype="INT32", shape=array.shape).contents.int_contents.extend(array.tolist())
    np.testing.assert_array_equal(decode_inputs(request, fitting(request))["x"], array, strict=True)


def test_of_more_inputs_or_outputs_than_there_are_the_first_unknown_one_is_told() -> None:
    request = request_of(x=np.ones((2, 3), np.float32))
    signature = fitting(request)
    for index in range(1000):
        request.inputs.add(name=f"x{index}")
        request.outputs.add(name=f"y{index}")
    with pytest.raises(InvalidRequestError, match="there is no input 'x0'; nearest: 'x'"):
        decode_inputs(request, signature)
    with pytest.raises(InvalidRequestError, match="there is no output 'y0'; the outputs are logits"):
        requested_outputs(request, OUTPUTS)


@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_request_or_an_error_of_ours(data: bytes) -> None:
    request = Request()
    try:
        request.ParseFromString(data)
    except Exception:  # noqa: BLE001 (the parser's own, turned into a status elsewhere)
        return
    with contextlib.suppress(InvalidRequestError):
        decode_inputs(request, fitting(request))
        requested_outputs(request, OUTPUTS)
